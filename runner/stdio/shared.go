package stdio

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

// subscriptionMember is the member of _meta that says to which request subscriptions/listen a message belongs.
const subscriptionMember = "io.modelcontextprotocol/subscriptionId"

// Shared are the processes for requests without sessions. Requests of all clients go to the same processes, so their ids and progress tokens are
// replaced by numbers of the runner.
type Shared struct {
	backend *Backend
	mutex   sync.Mutex
	workers []*worker // as many as there may be; nil for those that were not needed yet
}

// worker is one process and the requests that it carries out.
type worker struct {
	backend *Backend
	process *process.Process
	mutex   sync.Mutex
	last    int64
	calls   map[string]*SharedCall
	isOver  bool
}

// SharedCall is a request without a session in progress.
type SharedCall struct {
	// Reader reads the messages that belong to the request. They end with the response.
	Reader *stream.Reader
	worker *worker
	key    string          // the number of the runner
	id     json.RawMessage // the id of the client
	token  json.RawMessage // the progress token of the client; nil if there is none
	method string
}

// NewShared returns shared processes, at most count. They start when they are needed.
func NewShared(backend *Backend, count int) *Shared {
	return &Shared{backend: backend, workers: make([]*worker, count)}
}

// Call sends a request to the process with the fewest requests in progress.
func (s *Shared) Call(request rpc.Message) (*SharedCall, error) {
	if s.backend.draining.HasBegun() && request.Method == "subscriptions/listen" {
		return nil, session.ErrDraining
	}
	w, err := s.worker()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return w.call(request)
}

// complete ends all requests subscriptions/listen with a result, so that their clients subscribe again elsewhere.
func (s *Shared) complete() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, w := range s.workers {
		if w != nil {
			w.complete()
		}
	}
}

// inProgress returns the number of requests in progress.
func (s *Shared) inProgress() (count int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, w := range s.workers {
		if w != nil {
			count += w.load()
		}
	}
	return count
}

func (s *Shared) worker() (*worker, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	best, least := -1, 0
	for i, w := range s.workers {
		load := 0
		if w != nil {
			load = w.load()
		}
		if best < 0 || load < least {
			best, least = i, load
		}
	}
	if w := s.workers[best]; w != nil && !w.hasEnded() {
		return w, nil
	}
	p, err := s.backend.take("shared", "shared")
	if err != nil {
		return nil, err
	}
	w := &worker{backend: s.backend, process: p, calls: map[string]*SharedCall{}}
	s.workers[best] = w
	s.backend.running.Go(w.read)
	return w, nil
}

func (w *worker) hasEnded() bool {
	select {
	case <-w.process.Done():
		return true
	default:
		return false
	}
}

func (w *worker) load() int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return len(w.calls)
}

func (w *worker) call(request rpc.Message) (*SharedCall, error) {
	c := &SharedCall{
		Reader: stream.NewLog("s", w.backend.config.StreamBytes).Attach(0), worker: w, id: request.ID, token: rpc.Get(request.Params, "_meta", "progressToken"),
		method: request.Method,
	}
	w.mutex.Lock()
	if w.isOver {
		w.mutex.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrNoServer, exitText(w.process.Err()))
	}
	w.last++
	c.key = strconv.FormatInt(w.last, 10)
	w.calls[c.key] = c
	w.mutex.Unlock()
	raw := rpc.WithID(request.Raw, json.RawMessage(c.key))
	if c.token != nil {
		raw = rpc.Replace(raw, json.RawMessage(c.key), "params", "_meta", "progressToken")
	}
	if err := w.process.Send(raw); err != nil {
		w.remove(c.key)
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return c, nil
}

func (w *worker) remove(key string) *SharedCall {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	c := w.calls[key]
	delete(w.calls, key)
	if len(w.calls) == 0 {
		w.backend.draining.Notify()
	}
	return c
}

// Cancel tells the server that nobody waits for the response any more. It has no effect after the response.
func (c *SharedCall) Cancel() {
	if c.worker.remove(c.key) == nil {
		return
	}
	c.Reader.Log().Close()
	_ = c.worker.process.Send(fmt.Appendf(nil, // else the process has ended
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"the client has closed the connection"}}`, c.key))
}

// read receives the messages of the process until its end.
func (w *worker) read() {
	for line := w.process.Next(); line != nil; line = w.process.Next() {
		message, err := rpc.Parse(line)
		if err != nil {
			w.backend.config.Metrics.Skipped.Inc()
			continue
		}
		w.receive(message)
	}
	<-w.process.Done()
	w.mutex.Lock()
	w.isOver = true
	calls := w.calls
	w.calls = nil
	w.mutex.Unlock()
	text := "the server has ended before it answered the request: " + exitText(w.process.Err())
	for _, c := range calls {
		c.Reader.Log().Offer(rpc.Error(c.id, rpc.Unavailable, text, nil), true)
	}
}

func (w *worker) receive(message rpc.Message) {
	switch message.Kind {
	case rpc.Response:
		if c := w.remove(rpc.Key(message.ID)); c != nil {
			raw := rpc.WithID(message.Raw, c.id)
			c.Reader.Log().Offer(rpc.Replace(raw, c.id, "result", "_meta", subscriptionMember), true)
		}
	case rpc.Request: // a server has no requests in these versions
		_ = w.process.Send(rpc.Error(message.ID, rpc.MethodNotFound, "a server without sessions has no requests", nil)) // else the process has ended
	case rpc.Notification:
		c, raw := w.addressee(message)
		if c != nil && !c.Reader.Log().Offer(raw, false) {
			c.worker.backend.config.Log.Warn("a client does not read its messages: its request is cancelled", "method", c.method)
			w.backend.running.Go(c.Cancel)
		}
	}
}

// addressee returns the request to which a notification belongs, and the notification for its client. A notification that does not say it belongs to the
// only request in progress. If there are several, it is dropped: it must not reach the wrong client.
func (w *worker) addressee(message rpc.Message) (*SharedCall, json.RawMessage) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if id := rpc.Get(message.Params, "_meta", subscriptionMember); id != nil {
		if c := w.calls[number(id)]; c != nil {
			return c, rpc.Replace(message.Raw, c.id, "params", "_meta", subscriptionMember)
		}
		return nil, nil
	}
	if message.Method == "notifications/progress" {
		if c := w.calls[number(rpc.Get(message.Params, "progressToken"))]; c != nil && c.token != nil {
			return c, rpc.Replace(message.Raw, c.token, "params", "progressToken")
		}
		return nil, nil
	}
	if len(w.calls) == 1 {
		for _, c := range w.calls {
			return c, message.Raw
		}
	}
	return nil, nil
}

// number returns the key of an id that a server may have written as a text.
func number(id json.RawMessage) string {
	if text, isText := rpc.GetString(id); isText {
		return text
	}
	return rpc.Key(id)
}

func (w *worker) complete() {
	w.mutex.Lock()
	var listening []*SharedCall
	for key, c := range w.calls {
		if c.method == "subscriptions/listen" {
			listening = append(listening, c)
			delete(w.calls, key)
		}
	}
	w.mutex.Unlock()
	w.backend.draining.Notify()
	for _, c := range listening {
		c.Reader.Log().Offer(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","_meta":{%q:%s}}}`, c.id, subscriptionMember, c.id), true)
	}
}

// Ask sends a request of the runner and returns the response.
func (s *Shared) Ask(ctx context.Context, method string, params any) (rpc.Message, error) {
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 0, "method": method, "params": params})
	if err != nil {
		return rpc.Message{}, fmt.Errorf("encoding a request: %w", err)
	}
	request, err := rpc.Parse(raw)
	if err != nil {
		return rpc.Message{}, err
	}
	call, err := s.Call(request)
	if err != nil {
		return rpc.Message{}, err
	}
	for {
		events, isEnd, err := call.Reader.Next(ctx)
		if err != nil {
			call.Cancel()
			return rpc.Message{}, fmt.Errorf("waiting for %s: %w", method, err)
		}
		if isEnd && len(events) > 0 {
			return rpc.Parse(events[len(events)-1].Data)
		}
		if isEnd {
			return rpc.Message{}, fmt.Errorf("%w: no answer to %s", ErrNoServer, method)
		}
	}
}
