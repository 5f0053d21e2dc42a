package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

const eventStream = "text/event-stream"

// retry tells the client when to connect again after a stream was ended because its session moves to another pod.
const retry = "retry: 500\n\n"

const keepAliveComment = ": keep-alive\n\n"

// pieceBytes is how much of a stream is read at once. A stream that sends more at once gets a larger buffer, up to mostPieceBytes.
const (
	pieceBytes     = 1 << 10
	mostPieceBytes = 16 << 10
)

// events is the body of a response with server-sent events. It passes the bytes of the server on, adds comments while the server is silent, and ends when
// the session does. It reads the next piece only when the client has taken the last one.
type events struct {
	body      io.ReadCloser
	keepAlive time.Duration
	session   context.Context // ends with the session; context.Background() if there is none
	onLine    func(data []byte)

	pieces  chan piece
	next    chan struct{}
	closed  chan struct{}
	closing sync.Once
	pending []byte // to be read by the client
	isPiece bool   // pending is what the server sent
	isAhead bool   // the piece after pending is already being read
	err     error  // after pending
	framing framing
}

type piece struct {
	data []byte
	err  error
}

// newEvents returns a body. onLine gets the content of each data line that is not too long.
func newEvents(session context.Context, body io.ReadCloser, keepAlive time.Duration, onLine func([]byte)) *events {
	e := &events{
		body: body, keepAlive: keepAlive, session: session, onLine: onLine,
		pieces: make(chan piece), next: make(chan struct{}), closed: make(chan struct{}), framing: framing{isEmptyLine: true, isBoundary: true},
	}
	go e.pump()
	return e
}

// pump reads pieces until the end of the body.
func (e *events) pump() {
	buffer := make([]byte, pieceBytes)
	for {
		n, err := e.body.Read(buffer)
		select {
		case e.pieces <- piece{buffer[:n], err}:
		case <-e.closed:
			return
		}
		if err != nil {
			return
		}
		select {
		case <-e.next:
		case <-e.closed:
			return
		}
		if n == len(buffer) && n < mostPieceBytes {
			buffer = make([]byte, 2*n)
		}
	}
}

// Read implements io.Reader.
func (e *events) Read(p []byte) (int, error) {
	for {
		if len(e.pending) > 0 {
			n := copy(p, e.pending)
			if e.isPiece {
				e.framing.add(e.pending[:n], e.onLine)
			}
			if e.pending = e.pending[n:]; len(e.pending) == 0 && e.isPiece {
				e.isPiece = false
				if !e.isAhead {
					e.goOn()
				}
				e.isAhead = false
			}
			return n, nil
		}
		if e.err != nil {
			return 0, e.err
		}
		e.wait()
	}
}

// goOn lets the next piece be read.
func (e *events) goOn() {
	if e.err != nil {
		return
	}
	select {
	case e.next <- struct{}{}:
	case <-e.closed:
	}
}

// await waits for the first piece, but not for long. It must be called before Read.
func (e *events) await(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case one := <-e.pieces:
		e.take(one)
	case <-e.session.Done():
	case <-timer.C:
	}
}

// awaitEnd waits for the end of a stream whose first piece has the response, but not for long. Most servers end the stream then. It returns the length of
// the stream if it has ended: the client gets it at once, with its length. It must be called after await.
func (e *events) awaitEnd(most time.Duration) (length int, hasEnded bool) {
	if e.err != nil {
		return len(e.pending), errors.Is(e.err, io.EOF)
	}
	if !e.isPiece || !bytes.HasSuffix(e.pending, []byte("\n\n")) || !bytes.Contains(e.pending, []byte(`"result"`)) {
		return 0, false
	}
	e.pending = bytes.Clone(e.pending) // the next piece is read into the same buffer
	e.goOn()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case one := <-e.pieces:
		if one.err != nil && !errors.Is(one.err, io.EOF) && e.session.Err() != nil {
			break // the end of the session has ended the request: the next wait finishes the stream
		}
		e.pending, e.err = append(e.pending, one.data...), one.err
		return len(e.pending), errors.Is(e.err, io.EOF)
	case <-e.session.Done():
	case <-timer.C:
	}
	e.isAhead = true
	return 0, false
}

// take makes a piece the next that the client reads.
func (e *events) take(one piece) {
	if one.err != nil && !errors.Is(one.err, io.EOF) && e.session.Err() != nil {
		e.finish() // the end of the session has ended the request
		return
	}
	if e.pending, e.isPiece, e.err = one.data, true, one.err; len(one.data) == 0 {
		e.isPiece = false
		e.goOn()
	}
}

// wait waits for the next piece.
func (e *events) wait() {
	var silent <-chan time.Time
	if e.keepAlive > 0 {
		timer := time.NewTimer(e.keepAlive)
		defer timer.Stop()
		silent = timer.C
	}
	select {
	case one := <-e.pieces:
		e.take(one)
	case <-e.session.Done():
		e.finish()
	case <-silent:
		if e.framing.isBoundary {
			e.pending = []byte(keepAliveComment)
		}
	}
}

// finish ends the stream. An event that has begun cannot be completed: then the connection breaks.
func (e *events) finish() {
	switch cause := context.Cause(e.session); {
	case !e.framing.isBoundary:
		e.err = fmt.Errorf("in the middle of an event: %w", cause)
	case errors.Is(cause, session.ErrMoved):
		e.pending, e.err = []byte(retry), io.EOF
	default:
		e.err = io.EOF
	}
}

// Close implements io.Closer.
func (e *events) Close() error {
	e.closing.Do(func() { close(e.closed) })
	return e.body.Close() //nolint:wrapcheck // a body
}

// mostLine is the length of a data line that is looked at.
const mostLine = 64 << 10

// framing knows where events end.
type framing struct {
	isEmptyLine bool
	isBoundary  bool // between two events
	afterReturn bool
	line        []byte
	isLong      bool
}

// add adds bytes of the stream, and calls onLine for the data lines that have ended.
func (f *framing) add(data []byte, onLine func([]byte)) {
	for len(data) > 0 {
		c := data[0]
		switch {
		case c == '\n' && f.afterReturn: // belongs to the end of the line
			f.afterReturn = false
			data = data[1:]
		case c == '\n' || c == '\r':
			f.isBoundary, f.isEmptyLine, f.afterReturn = f.isEmptyLine, true, c == '\r'
			if content, isData := bytes.CutPrefix(f.line, []byte("data:")); isData && !f.isLong && onLine != nil {
				onLine(content)
			}
			f.line, f.isLong = f.line[:0], false
			data = data[1:]
		default:
			end := bytes.IndexAny(data, "\r\n")
			if end < 0 {
				end = len(data)
			}
			f.isBoundary, f.isEmptyLine, f.afterReturn = false, false, false
			if len(f.line)+end > mostLine {
				f.isLong = true
			} else if !f.isLong {
				f.line = append(f.line, data[:end]...)
			}
			data = data[end:]
		}
	}
}

// asResponse returns the content of a data line if it is the response to a request; else nil.
func asResponse(content []byte) []byte {
	if !bytes.Contains(content, []byte(`"result"`)) && !bytes.Contains(content, []byte(`"error"`)) {
		return nil
	}
	if message, err := rpc.Parse(content); err != nil || message.Kind != rpc.Response {
		return nil
	}
	return content
}
