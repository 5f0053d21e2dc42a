package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"mcpserver-operator/runner/session"
)

// In the middle of an event, a comment or an early end would change what the client receives.
func TestNothingIsAddedInTheMiddleOfAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancelCause(t.Context())
		body, server := io.Pipe()
		e := newEvents(life, body, time.Second, nil)
		defer e.Close()
		var got bytes.Buffer
		read := make(chan error)
		go func() { _, err := io.Copy(&got, e); read <- err }()
		for _, part := range []string{"data: a\n\n", "data: half", " of it\n", "id: 1\n"} {
			_, _ = io.WriteString(server, part)
			time.Sleep(1500 * time.Millisecond) // of the test's clock: a comment is due
		}
		end(session.ErrMoved)
		if err := <-read; !errors.Is(err, session.ErrMoved) {
			t.Errorf("an event that was cut off looks complete: %v", err)
		}
		if want := "data: a\n\n" + keepAliveComment + "data: half of it\nid: 1\n"; got.String() != want {
			t.Errorf("got %q", got.String())
		}
	})
}

func TestTheEndOfASessionEndsItsStream(t *testing.T) {
	for cause, want := range map[error]string{session.ErrMoved: "data: a\n\n" + retry, session.ErrEnded: "data: a\n\n"} {
		synctest.Test(t, func(t *testing.T) {
			life, end := context.WithCancelCause(t.Context())
			body, server := io.Pipe()
			e := newEvents(life, body, time.Hour, nil)
			defer e.Close()
			go func() {
				_, _ = io.WriteString(server, "data: a\n\n")
				synctest.Wait()
				end(cause)
			}()
			if got, err := io.ReadAll(e); err != nil || string(got) != want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestTheErrorOfTheServerReachesTheClient(t *testing.T) {
	broken := errors.New("broken")
	body := io.NopCloser(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(broken)))
	e := newEvents(context.Background(), body, 0, nil)
	defer e.Close()
	if got, err := io.ReadAll(e); !errors.Is(err, broken) || string(got) != "data: a\n\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTheEndsOfEventsAreFound(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "data: a": false, "data: a\n": false, "data: a\n\n": true, "data: a\r\n\r\n": true, "data: a\r\r": true, "data: a\r\n": false,
		"data: a\n\nd": false, ": comment\n": false, ": comment\n\n": true, "\n": true, "data: a\r\n\r": true,
	} {
		for size := range len(text) + 1 {
			f := framing{isEmptyLine: true, isBoundary: true}
			f.add([]byte(text[:size]), nil)
			if f.add([]byte(text[size:]), nil); f.isBoundary != want {
				t.Errorf("%q and %q: %t", text[:size], text[size:], f.isBoundary)
			}
		}
	}
}

func TestDataLinesAreSeen(t *testing.T) {
	f := framing{isEmptyLine: true}
	var lines []string
	text := "id: 1\ndata: {\"a\":1}\r\n\r\ndata:" + strings.Repeat("x", mostLine) + "\n\ndata:b\n\n"
	for i := range text {
		f.add([]byte{text[i]}, func(content []byte) { lines = append(lines, string(content)) })
	}
	if got := strings.Join(lines, "|"); got != ` {"a":1}|b` {
		t.Errorf("got %.100q", got)
	}
}

func TestAStreamWaitsOnlyBrieflyForItsFirstPiece(t *testing.T) {
	for silent, want := range map[time.Duration]time.Duration{0: 0, time.Millisecond: time.Millisecond, time.Hour: hold} {
		synctest.Test(t, func(t *testing.T) {
			body, server := io.Pipe()
			e := newEvents(t.Context(), body, 0, nil)
			defer e.Close()
			go func() {
				time.Sleep(silent)
				_, _ = io.WriteString(server, "data: a\n\n")
				_ = server.Close()
			}()
			begin := time.Now()
			if e.await(hold); time.Since(begin) != want {
				t.Errorf("silent for %s: waited for %s", silent, time.Since(begin))
			}
			if got, err := io.ReadAll(e); err != nil || string(got) != "data: a\n\n" {
				t.Errorf("silent for %s: got %q, %v", silent, got, err)
			}
		})
	}
}

func TestAStreamThatEndsWithItsResponseHasALength(t *testing.T) {
	const notification, response = "data: {\"method\":\"notifications/message\"}\n\n", "data: {\"id\":1,\"result\":{}}\n\n"
	for name, row := range map[string]struct {
		first    string
		silent   time.Duration // after the first piece
		second   string
		after    time.Duration // after the second piece
		waits    time.Duration
		hasEnded bool
	}{
		"ends at once":                       {response, 0, "", 0, 0, true},
		"ends soon":                          {response, holdEnd / 2, "", 0, holdEnd / 2, true},
		"ends later":                         {response, time.Second, "", 0, holdEnd, false},
		"goes on soon and ends":              {response, holdEnd / 2, notification, time.Second, holdEnd / 2, false},
		"goes on later and ends":             {response, time.Second, notification, time.Second, holdEnd, false},
		"begins with something else":         {notification, 0, response, 0, 0, false},
		"begins with a part of the response": {response[:9], 0, response[9:], 0, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			body, server := io.Pipe()
			e := newEvents(t.Context(), body, 0, nil)
			defer e.Close()
			go func() {
				_, _ = io.WriteString(server, row.first)
				time.Sleep(row.silent)
				if row.second != "" {
					_, _ = io.WriteString(server, row.second)
					time.Sleep(row.after)
				}
				_ = server.Close()
			}()
			e.await(hold)
			begin := time.Now()
			length, hasEnded := e.awaitEnd(holdEnd)
			if waited := time.Since(begin); hasEnded != row.hasEnded || waited != row.waits {
				t.Errorf("%s: ended %t, waited for %s", name, hasEnded, waited)
			}
			want := row.first + row.second
			if hasEnded && length != len(want) {
				t.Errorf("%s: has length %d, want %d", name, length, len(want))
			}
			if got, err := io.ReadAll(e); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		})
	}
}

// The buffer of a stream grows while the server sends much.
func TestALongEventPassesUnchanged(t *testing.T) {
	want := "data: " + strings.Repeat("0123456789", 10*mostPieceBytes) + "\n\n"
	e := newEvents(t.Context(), io.NopCloser(strings.NewReader(want)), 0, nil)
	defer e.Close()
	if got, err := io.ReadAll(e); err != nil || string(got) != want {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// A stream arrives in pieces. What the runner sees in it must not depend on where they begin.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("id: 1\ndata: {}\n\n"), 3)
	f.Add([]byte("data: a\r\n\r\ndata: b\r\rdata: c"), 1)
	f.Add([]byte(": comment\n\n\n\r\n\rdata:\n"), 2)
	f.Fuzz(func(t *testing.T, input []byte, size int) {
		size = max(1, size%16)
		read := func(size int) (lines []string, isBoundary bool) {
			state := framing{isEmptyLine: true, isBoundary: true}
			for piece := range slices.Chunk(input, size) {
				state.add(piece, func(content []byte) { lines = append(lines, string(content)) })
			}
			return lines, state.isBoundary
		}
		lines, isBoundary := read(size)
		want, wantBoundary := read(max(1, len(input)))
		if !slices.Equal(lines, want) || isBoundary != wantBoundary {
			t.Errorf("%q in pieces of %d: %q, %t; at once: %q, %t", input, size, lines, isBoundary, want, wantBoundary)
		}
	})
}

func FuzzEndpoint(f *testing.F) {
	f.Add([]byte(": hello\n\nevent: endpoint\ndata: /messages?sessionId=1\n\n"))
	f.Add([]byte("event: endpoint\r\ndata: //metadata.example/\r\n\r\n"))
	f.Add([]byte("data: x\n\nevent: endpoint\ndata: %zz\n\n"))
	target := &url.URL{Scheme: "http", Host: "127.0.0.1:3000"}
	f.Fuzz(func(t *testing.T, input []byte) {
		before, endpoint, err := readEndpoint(bufio.NewReader(bytes.NewReader(input)))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(input, before) {
			t.Errorf("%q comes before the endpoint of %q", before, input)
		}
		c := &call{front: &Front{Sessions: &Sessions{config: Config{Target: target}}}, r: &http.Request{URL: &url.URL{Path: "/sse"}}}
		if resolved, err := c.resolve(endpoint); err == nil && (resolved.Host != target.Host || resolved.Scheme != "http" || resolved.User != nil) {
			t.Errorf("the endpoint %q is %s", endpoint, resolved)
		}
	})
}
