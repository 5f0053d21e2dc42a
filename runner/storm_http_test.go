package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
)

// stormServer is the HTTP server of a pod. It has the tools of the fake stdio server that the storm uses.
type stormServer struct {
	*httptest.Server

	mutex    sync.Mutex
	opened   int
	sessions map[string]*stormState
}

// stormState is what the server knows of a session.
type stormState struct {
	memory  string
	calls   int
	never   map[string]chan struct{} // calls without an answer, by id; closed when they are cancelled
	changed chan struct{}
}

func newStormServer() *stormServer {
	s := &stormServer{sessions: map[string]*stormState{}}
	s.Server = httptest.NewServer(s)
	return s
}

func (s *stormServer) close() {
	s.CloseClientConnections()
	s.Close()
}

func (s *stormServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	message, _ := rpc.Parse(body)
	id := r.Header.Get(legacy.SessionHeader)
	isModern := r.Header.Get(legacy.VersionHeader) >= rpc.Modern
	if isModern {
		id = "modern"
	}
	s.mutex.Lock()
	state := s.sessions[id]
	if state == nil && (isModern || message.Method == "initialize") {
		if s.opened++; !isModern {
			id = fmt.Sprintf("%s/%d", s.URL, s.opened)
		}
		state = &stormState{never: map[string]chan struct{}{}, changed: make(chan struct{}, 10)}
		s.sessions[id] = state
	}
	s.mutex.Unlock()
	switch {
	case state == nil:
		http.Error(w, "no such session", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		s.forget(id)
	case r.Method == http.MethodGet, message.Method == "subscriptions/listen":
		s.listen(w, r, state)
	case message.Method == "initialize":
		w.Header().Set(legacy.SessionHeader, id)
		version, _ := rpc.GetString(message.Params, "protocolVersion")
		writeResult(w, message, fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{},"serverInfo":{"name":"storm","version":"1"}}`, version))
	case message.Method == "notifications/cancelled":
		s.mutex.Lock()
		if ended := state.never[string(rpc.Get(message.Params, "requestId"))]; ended != nil {
			close(ended)
			delete(state.never, string(rpc.Get(message.Params, "requestId")))
		}
		s.mutex.Unlock()
		w.WriteHeader(http.StatusAccepted)
	case message.Kind == rpc.Request:
		s.call(w, r, id, state, message)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (s *stormServer) forget(id string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.sessions, id)
}

func writeResult(w http.ResponseWriter, message rpc.Message, result string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, message.ID, result)
}

func writeText(w http.ResponseWriter, message rpc.Message, text string) {
	writeResult(w, message, fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, text))
}

// listen writes what has changed until the client leaves.
func (s *stormServer) listen(w http.ResponseWriter, r *http.Request, state *stormState) {
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-state.changed:
			_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
		case <-r.Context().Done():
			return
		}
	}
}

func (s *stormServer) call(w http.ResponseWriter, r *http.Request, id string, state *stormState, message rpc.Message) {
	s.mutex.Lock()
	state.calls++
	calls, before := state.calls, state.memory
	name, _ := rpc.GetString(message.Params, "name")
	if name == "remember" {
		state.memory = string(rpc.Get(message.Params, "arguments", "value"))
	}
	cancelled := make(chan struct{})
	if name == "never" {
		state.never[string(message.ID)] = cancelled
	}
	s.mutex.Unlock()
	switch name {
	case "remember":
		writeText(w, message, before)
	case "sleep":
		time.Sleep(50 * time.Millisecond)
		writeText(w, message, "slept")
	case "progress":
		w.Header().Set("Content-Type", "text/event-stream")
		progress := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s}}`, rpc.Get(message.Params, "_meta", "progressToken"))
		_, _ = io.WriteString(w, strings.Repeat("data: "+progress+"\n\n", 2))
		_ = http.NewResponseController(w).Flush()
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[]}}\n\n", message.ID)
	case "never":
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-cancelled:
		case <-r.Context().Done():
		}
	case "changed":
		select {
		case state.changed <- struct{}{}:
		default:
		}
		writeText(w, message, "done")
	case "exit": // an HTTP server forgets the session
		s.forget(id)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(rpc.Error(message.ID, rpc.Unavailable, "the session is forgotten", nil))
	default:
		writeText(w, message, fmt.Sprint(calls))
	}
}
