// Package stream has the streams of server-sent events on which the messages of a server reach a client, and their format. A stream keeps its
// last events, so that a client that was disconnected can go on where it stopped.
package stream

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
)

// Event is a message on a stream.
type Event struct {
	// Sequence is the position in the stream, from 1.
	Sequence uint64
	// Data is the message, in one line.
	Data []byte
}

// Log is one stream of a session. It has at most one reader at a time. A message that was added stays until the reader has taken it, and longer
// as long as there is room.
type Log struct {
	// Name identifies the stream in its session. It has no dash and no line break.
	Name string

	mutex   sync.Mutex
	most    int // bytes
	size    int
	events  []Event
	last    uint64 // sequence of the last event
	taken   uint64 // sequence of the last event that a reader has taken
	reader  uint64 // number of the present reader; 0 if there is none
	readers uint64
	closed  bool
	changed chan struct{}
}

// NewLog returns a stream that keeps at most most bytes of events that were taken.
func NewLog(name string, most int) *Log {
	return &Log{Name: name, most: most, changed: make(chan struct{})}
}

// ErrReplaced is the error of Next after another reader has attached.
var ErrReplaced = errors.New("another connection reads the stream")

// Add appends a message. If a reader is attached and is behind by more than the bytes that the stream keeps, it waits for the reader, so that a slow
// client slows the server down. Without a reader, the oldest messages are dropped. It fails when ctx ends.
func (l *Log) Add(ctx context.Context, data []byte) error { return l.add(ctx, data, false) }

// Finish appends the last message and ends the stream.
func (l *Log) Finish(ctx context.Context, data []byte) error { return l.add(ctx, data, true) }

// Offer appends a message without waiting. It fails if the reader is behind by more than the bytes that the stream keeps. The last message ends the
// stream and is always accepted.
func (l *Log) Offer(data []byte, isLast bool) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.closed {
		return true // for example a notification about a request that was cancelled
	}
	if !isLast && l.untaken() > l.most {
		return false
	}
	l.append(data, isLast)
	return true
}

func (l *Log) add(ctx context.Context, data []byte, isLast bool) error {
	for {
		l.mutex.Lock()
		if l.closed || l.reader == 0 || l.untaken() <= l.most {
			break
		}
		changed := l.changed
		l.mutex.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer l.mutex.Unlock()
	if l.closed {
		return nil // for example a notification about a request that was cancelled
	}
	l.append(data, isLast)
	return nil
}

// append appends a message. Requires the lock.
func (l *Log) append(data []byte, isLast bool) {
	l.last++
	l.closed = isLast
	l.events = append(l.events, Event{Sequence: l.last, Data: data})
	l.size += len(data)
	for l.size > l.most && len(l.events) > 1 && (l.reader == 0 || l.events[0].Sequence <= l.taken) {
		l.size -= len(l.events[0].Data)
		l.events = l.events[1:]
	}
	l.notify()
}

// untaken returns the bytes that the reader has not taken.
func (l *Log) untaken() (size int) {
	for i := len(l.events) - 1; i >= 0 && l.events[i].Sequence > l.taken; i-- {
		size += len(l.events[i].Data)
	}
	return size
}

// Close ends the stream. The events stay readable.
func (l *Log) Close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
	l.notify()
}

// Discard forgets the events: the client has received them in a form that it cannot ask for again.
func (l *Log) Discard() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.events, l.size = nil, 0
}

// IsComplete reports whether the stream has ended and has no event after a sequence.
func (l *Log) IsComplete(after uint64) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.closed && len(l.after(after)) == 0
}

// Taken returns the sequence of the last event that a reader has taken.
func (l *Log) Taken() uint64 {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.taken
}

// IsClosed reports whether the stream has ended.
func (l *Log) IsClosed() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.closed
}

// HasReader reports whether a client reads the stream.
func (l *Log) HasReader() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.reader != 0
}

func (l *Log) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Attach returns a reader of the events after a sequence. It replaces the present reader: after a lost connection, the client knows of the loss before
// the runner does.
func (l *Log) Attach(after uint64) *Reader {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.readers++
	l.reader, l.taken = l.readers, min(after, l.last)
	l.notify()
	return &Reader{log: l, number: l.readers}
}

// Reader reads the events of a stream.
type Reader struct {
	log    *Log
	number uint64
}

// Log returns the stream.
func (r *Reader) Log() *Log { return r.log }

// Next returns the events after those that it has returned, and waits until there are some, or the stream ends. At the end of the stream, isEnd is true
// and no events follow. It fails when ctx ends, or with ErrReplaced.
func (r *Reader) Next(ctx context.Context) (events []Event, isEnd bool, err error) {
	for {
		r.log.mutex.Lock()
		if r.log.reader != r.number {
			r.log.mutex.Unlock()
			return nil, false, ErrReplaced
		}
		events = r.log.after(r.log.taken)
		isEnd, changed := r.log.closed, r.log.changed
		if len(events) > 0 {
			r.log.taken = events[len(events)-1].Sequence
			r.log.notify()
		}
		r.log.mutex.Unlock()
		if len(events) > 0 || isEnd {
			return events, isEnd, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// after returns the events after a sequence. Requires the lock.
func (l *Log) after(sequence uint64) []Event {
	for i := range l.events {
		if l.events[i].Sequence > sequence {
			return append([]Event(nil), l.events[i:]...)
		}
	}
	return nil
}

// Detach ends the reading.
func (r *Reader) Detach() {
	r.log.mutex.Lock()
	defer r.log.mutex.Unlock()
	if r.log.reader == r.number {
		r.log.reader = 0
		r.log.notify()
	}
}

// EventID returns the id of an event, which names its stream.
func EventID(name string, sequence uint64) string {
	return name + "-" + strconv.FormatUint(sequence, 10)
}

// ParseEventID returns the stream and the sequence of an event id.
func ParseEventID(id string) (name string, sequence uint64, ok bool) {
	name, number, found := strings.Cut(id, "-")
	sequence, err := strconv.ParseUint(number, 10, 64)
	return name, sequence, found && err == nil && name != ""
}
