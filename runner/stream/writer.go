package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Writer writes server-sent events to a client.
type Writer struct {
	response   http.ResponseWriter
	controller *http.ResponseController
	timeout    time.Duration
}

// NewWriter begins a response with server-sent events. A write that takes longer than timeout fails.
func NewWriter(response http.ResponseWriter, timeout time.Duration) (*Writer, error) {
	header := response.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no") // nginx would collect the events
	w := &Writer{response: response, controller: http.NewResponseController(response), timeout: timeout}
	response.WriteHeader(http.StatusOK)
	return w, w.Flush()
}

// Event writes an event, without sending it yet. The id and the name may be empty.
func (w *Writer) Event(id, name string, data []byte) error {
	text := make([]byte, 0, len(data)+64)
	if id != "" {
		text = append(append(append(text, "id: "...), id...), '\n')
	}
	if name != "" {
		text = append(append(append(text, "event: "...), name...), '\n')
	}
	text = append(append(append(text, "data: "...), data...), "\n\n"...)
	return w.write(text)
}

// Retry tells the client to wait before it connects again.
func (w *Writer) Retry(wait time.Duration) error {
	return w.write(fmt.Appendf(nil, "retry: %d\n\n", wait.Milliseconds()))
}

// KeepAlive writes a comment, which keeps proxies from closing an idle connection, and detects a client that is gone.
func (w *Writer) KeepAlive() error {
	if err := w.write([]byte(": keep-alive\n\n")); err != nil {
		return err
	}
	return w.Flush()
}

// Await returns the next events of a stream as Reader.Next does. While there are none, it keeps the connection to the client alive.
func (w *Writer) Await(ctx context.Context, reader *Reader, keepAlive time.Duration) (events []Event, isEnd bool, err error) {
	for {
		silent, cancel := context.WithTimeoutCause(ctx, keepAlive, errSilent)
		events, isEnd, err = reader.Next(silent)
		cancel()
		if !errors.Is(err, errSilent) {
			return events, isEnd, err
		}
		if err := w.KeepAlive(); err != nil {
			return nil, false, err
		}
	}
}

var errSilent = errors.New("no event for a while")

// Flush sends what was written.
func (w *Writer) Flush() error {
	if err := w.controller.Flush(); err != nil {
		return fmt.Errorf("sending events: %w", err)
	}
	return nil
}

func (w *Writer) write(text []byte) error {
	_ = w.controller.SetWriteDeadline(time.Now().Add(w.timeout)) // not supported by recorders in tests
	if _, err := w.response.Write(text); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return nil
}
