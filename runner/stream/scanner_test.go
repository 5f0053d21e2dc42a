package stream

import (
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestEventsAreRead(t *testing.T) {
	text := "\uFEFF: comment\n\nid: a-1\nevent: message\ndata: one\ndata:two\n\nid:p-0\ndata: \n\nretry: 100\n\r\ndata: crlf\r\n\r\ndata: cut off"
	s := NewScanner(iotest.OneByteReader(strings.NewReader(text)), 100)
	want := []string{"a-1 message one\ntwo", "p-0  ", "  ", "  crlf"}
	for i, want := range want {
		event, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		id := ""
		if event.ID != nil {
			id = *event.ID
		}
		if got := id + " " + event.Name + " " + string(event.Data); got != want {
			t.Errorf("event %d: got %q, want %q", i, got, want)
		}
		if (event.Retry != nil) != (i == 2) || (i == 2 && *event.Retry != 100*time.Millisecond) {
			t.Errorf("event %d: retry %v", i, event.Retry)
		}
	}
	if _, err := s.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestALongEventIsRefused(t *testing.T) {
	s := NewScanner(strings.NewReader("data: "+strings.Repeat("a", 100)+"\n\n"), 50)
	if _, err := s.Next(); !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v", err)
	}
}

// What the writer writes, the scanner reads.
func FuzzEvents(f *testing.F) {
	f.Add("g-1", `{"a":1}`)
	f.Fuzz(func(t *testing.T, id, data string) {
		if strings.ContainsAny(id+data, "\r\n\x00") || id == "" {
			return
		}
		recorder := httptest.NewRecorder()
		w, err := NewWriter(recorder, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Event(id, "", []byte(data)), w.KeepAlive(), w.Event(id, "", []byte(data))); err != nil {
			t.Fatal(err)
		}
		s := NewScanner(recorder.Body, 1<<20)
		for range 2 {
			event, err := s.Next()
			if err != nil || *event.ID != id || string(event.Data) != data {
				t.Errorf("got %+v, %v", event, err)
			}
		}
	})
}

func FuzzScanner(f *testing.F) {
	f.Add("id: 1\r\ndata: a\r\rretry: 5\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := NewScanner(strings.NewReader(text), 64)
		for {
			event, err := s.Next()
			if err != nil {
				return
			}
			if len(event.Data) > 64 {
				t.Errorf("an event of %d bytes", len(event.Data))
			}
		}
	})
}
