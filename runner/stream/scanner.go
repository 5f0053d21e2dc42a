package stream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Received is a server-sent event that was received.
type Received struct {
	// ID is the id of the event; nil if the event has none.
	ID *string
	// Name is the type of the event; empty for a message.
	Name string
	// Data is the content, with line breaks between its lines.
	Data []byte
	// Retry is how long to wait before the next connection; nil if the event does not say it.
	Retry *time.Duration
}

// ErrTooLong is the error of Scanner.Next for an event that is longer than the scanner allows.
var ErrTooLong = errors.New("the event is too long")

// Scanner reads server-sent events.
type Scanner struct {
	reader *bufio.Reader
	most   int
	begun  bool
	// afterReturn is true after a carriage return: a line feed that follows belongs to it. It may arrive later.
	afterReturn bool
}

// NewScanner returns a scanner of events of at most most bytes.
func NewScanner(reader io.Reader, most int) *Scanner {
	return &Scanner{reader: bufio.NewReader(reader), most: most}
}

// Next returns the next event that has an id, data or a waiting time. Comments are skipped. It fails with io.EOF at the end; an event that has no empty
// line after it is incomplete and dropped.
func (s *Scanner) Next() (Received, error) {
	var event Received
	size, hasData, isEmpty := 0, false, true
	for {
		line, err := s.line(s.most - size)
		if err != nil {
			return Received{}, err
		}
		size += len(line)
		if len(line) == 0 {
			if !isEmpty {
				return event, nil
			}
			event, size = Received{}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				id := string(value)
				event.ID, isEmpty = &id, false
			}
		case "event":
			event.Name = string(value)
		case "data":
			if hasData {
				event.Data = append(event.Data, '\n')
			}
			event.Data, hasData, isEmpty = append(event.Data, value...), true, false
		case "retry":
			if wait, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				duration := time.Duration(wait) * time.Millisecond
				event.Retry, isEmpty = &duration, false
			}
		}
	}
}

// line reads a line, which ends with \n, \r\n or \r.
func (s *Scanner) line(most int) ([]byte, error) {
	var line []byte
	for {
		c, err := s.reader.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("reading an event: %w", err)
		}
		if !s.begun && c == 0xEF { // a byte order mark
			if mark, err := s.reader.Peek(2); err == nil && mark[0] == 0xBB && mark[1] == 0xBF {
				_, _ = s.reader.Discard(2)
				s.begun = true
				continue
			}
		}
		s.begun = true
		if c == '\n' && s.afterReturn {
			s.afterReturn = false
			continue
		}
		s.afterReturn = c == '\r'
		if c == '\n' || c == '\r' {
			return line, nil
		}
		if len(line) >= most {
			return nil, ErrTooLong
		}
		line = append(line, c)
	}
}
