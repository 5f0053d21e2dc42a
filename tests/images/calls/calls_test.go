package calls_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"mcpserver-operator/tests/images/calls"
)

// newServer returns a server with the tools echo, fail and hang. The tool hang only responds when the test ends. While broken is set,
// the server returns 503.
func newServer(t *testing.T, broken *atomic.Bool) *httptest.Server {
	t.Helper()
	type input struct {
		Text string `json:"text"`
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "fake", Version: "v9"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "fail"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return nil, nil, errors.New("out of order")
	})
	ended := make(chan struct{})
	mcp.AddTool(server, &mcp.Tool{Name: "hang"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		<-ended
		return nil, nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	listening := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(calls.InstanceHeader, "web-0")
		if broken.Load() {
			http.Error(w, "no endpoint", http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		close(ended)
		listening.CloseClientConnections()
		listening.Close()
	})
	return listening
}

func run(t *testing.T, options calls.Options) ([]calls.Result, calls.Summary) {
	t.Helper()
	var output bytes.Buffer
	returned, err := calls.Run(t.Context(), options, &output)
	if err != nil {
		t.Fatal(err)
	}
	results, summary, err := calls.Parse(output.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if summary == nil || summary.Calls != returned.Calls || summary.Failed != returned.Failed || summary.Calls != len(results) {
		t.Fatalf("got %d results, the returned summary %+v, and the printed summary %+v", len(results), returned, summary)
	}
	return results, *summary
}

func TestCount(t *testing.T) {
	server := newServer(t, &atomic.Bool{})
	results, summary := run(t, calls.Options{URL: server.URL, Tool: "echo", Arguments: map[string]any{"text": "hi"}, Count: 3})
	if summary.Calls != 3 || summary.Failed != 0 || summary.Connections != 1 || summary.Instances["web-0"] != 3 {
		t.Errorf("got the summary %+v, want 3 calls in one session", summary)
	}
	if summary.Server != "fake" || summary.Version != "v9" || summary.Protocol == "" || !slices.Equal(summary.Tools, []string{"echo", "fail", "hang"}) {
		t.Errorf("got the summary %+v, want the properties of the server", summary)
	}
	for i, result := range results {
		if !result.OK || result.Text != "hi" || result.Instance != "web-0" || result.Milliseconds <= 0 || result.Connected != (i == 0) {
			t.Errorf("unexpected result %d: %+v", i, result)
		}
	}
}

func TestFresh(t *testing.T) {
	server := newServer(t, &atomic.Bool{})
	results, summary := run(t, calls.Options{URL: server.URL, Tool: "echo", Arguments: map[string]any{"text": "hi"}, Count: 2, Fresh: true})
	if summary.Connections != 2 || !results[1].Connected {
		t.Errorf("got the summary %+v, want a session for each call", summary)
	}
}

func TestUnpooled(t *testing.T) {
	for _, unpooled := range []bool{false, true} {
		server := newServer(t, &atomic.Bool{})
		var mutex sync.Mutex
		connections, handler := map[string]bool{}, server.Config.Handler
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mutex.Lock()
			connections[r.RemoteAddr] = true
			mutex.Unlock()
			handler.ServeHTTP(w, r)
		})
		_, summary := run(t, calls.Options{URL: server.URL, Tool: "echo", Arguments: map[string]any{"text": "hi"}, Count: 5, Unpooled: unpooled})
		mutex.Lock()
		if summary.Connections != 1 || (len(connections) > 5) != unpooled {
			t.Errorf("with unpooled %t, the client used %d sessions and %d connections", unpooled, summary.Connections, len(connections))
		}
		mutex.Unlock()
	}
}

func TestDuration(t *testing.T) {
	server := newServer(t, &atomic.Bool{})
	begin := time.Now()
	_, summary := run(t, calls.Options{URL: server.URL, For: 500 * time.Millisecond, Every: 100 * time.Millisecond})
	if took := time.Since(begin); took < 500*time.Millisecond {
		t.Errorf("the run took %s, want 500ms", took)
	}
	if summary.Calls < 2 || summary.Calls > 6 || summary.Failed != 0 {
		t.Errorf("got the summary %+v, want about 5 calls", summary)
	}
}

func TestFailures(t *testing.T) {
	server := newServer(t, &atomic.Bool{})
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(func() {
		endless.CloseClientConnections()
		endless.Close()
	})
	for _, test := range []struct {
		options calls.Options
		want    string
	}{
		{calls.Options{URL: server.URL, Tool: "fail"}, "call fail: the tool failed: out of order"},
		{calls.Options{URL: server.URL, Tool: "absent"}, "call absent: "},
		{calls.Options{URL: server.URL, Tool: "hang", Timeout: 200 * time.Millisecond}, "call hang: "},
		{calls.Options{URL: endless.URL, Timeout: 200 * time.Millisecond}, "initialize: "},
		{calls.Options{URL: "http://127.0.0.1:1/mcp"}, "initialize: "},
	} {
		test.options.Count = 1
		results, summary := run(t, test.options)
		if results[0].OK || summary.Failed != 1 || !strings.HasPrefix(results[0].Error, test.want) {
			t.Errorf("%+v: got the result %+v, want %q", test.options, results[0], test.want)
		}
		if timeout := test.options.Timeout; timeout > 0 && summary.MaxMilliseconds > 10*float64(timeout.Milliseconds()) {
			t.Errorf("%+v: the call took %v ms", test.options, summary.MaxMilliseconds)
		}
	}
}

// A client opens a new session after a failure, so that a single outage does not affect all later calls.
func TestRecovery(t *testing.T) {
	var broken atomic.Bool
	server := newServer(t, &broken)
	output := &observed{}
	output.saw = func(line []byte) {
		// The server works, breaks, and works again.
		broken.Store(bytes.Contains(line, []byte(`"call":1,`)))
	}
	summary, err := calls.Run(t.Context(), calls.Options{URL: server.URL, Tool: "echo", Arguments: map[string]any{"text": "hi"}, Count: 3}, output)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Calls != 3 || summary.Failed != 1 || summary.Connections != 2 {
		t.Errorf("got the summary %+v, want one failure in three calls, and two sessions", summary)
	}
}

// observed calls a function for each line that is written.
type observed struct {
	saw func(line []byte)
}

func (o *observed) Write(line []byte) (int, error) {
	o.saw(line)
	return len(line), nil
}

func TestRefused(t *testing.T) {
	for _, options := range []calls.Options{{Count: 1}, {URL: "http://127.0.0.1:1"}} {
		if _, err := calls.Run(t.Context(), options, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v was accepted", options)
		}
	}
}

func TestParseWhileItRuns(t *testing.T) {
	results, summary, err := calls.Parse([]byte("{\"result\":{\"call\":1,\"ok\":true}}\n{\"result\":{\"ca"))
	if err != nil || len(results) != 1 || !results[0].OK || summary != nil {
		t.Errorf("got %+v, %+v, %v, want the one complete line", results, summary, err)
	}
	if _, _, err := calls.Parse([]byte("panic: out of memory\n")); err == nil {
		t.Error("a line that is not JSON was accepted")
	}
}

func TestSeveralSessions(t *testing.T) {
	server := newServer(t, &atomic.Bool{})
	results, summary := run(t, calls.Options{
		URL: server.URL, Tool: "echo", Arguments: map[string]any{"text": "session " + calls.SessionPlaceholder}, Count: 3, Sessions: 4, Protocol: "2025-06-18",
		OpeningTool: "echo", OpeningArguments: map[string]any{"text": calls.SessionPlaceholder},
	})
	if summary.Calls != 12 || summary.Failed != 0 || summary.Connections != 4 || summary.Protocol != "2025-06-18" {
		t.Errorf("got the summary %+v, want 3 calls in each of 4 sessions", summary)
	}
	for _, result := range results {
		if want := fmt.Sprintf("session %d", result.Session); result.Text != want || result.Session < 1 || result.Session > 4 {
			t.Errorf("session %d got %q", result.Session, result.Text)
		}
	}
	if _, summary := run(t, calls.Options{URL: server.URL, Tool: "echo", Count: 1, OpeningTool: "fail"}); summary.Failed != 1 {
		t.Error("a failure of the opening call is not reported")
	}
}

func TestKeptSession(t *testing.T) {
	server := newServer(t, &atomic.Bool{})
	for _, keeps := range []bool{true, false} {
		results, summary := run(t, calls.Options{URL: server.URL, Tool: "fail", Count: 3, Keep: keeps})
		if summary.Failed != 3 || (summary.Connections == 1) != keeps || results[2].Connected == keeps {
			t.Errorf("keep %t: got the summary %+v and the last result %+v", keeps, summary, results[2])
		}
	}
}
