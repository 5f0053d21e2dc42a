package stdio

import (
	"slices"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/stream"
)

// mostEnded is the number of ended streams that a session keeps for clients that were disconnected.
const mostEnded = 8

// General returns the stream of messages that belong to no request.
func (s *Session) General() *stream.Log { return s.general }

// Stream returns a stream by name; nil if the session does not have it, or not any more.
func (s *Session) Stream(name string) *stream.Log {
	if name == s.general.Name {
		return s.general
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, c := range s.calls {
		if c.group.log.Name == name {
			return c.group.log
		}
	}
	for _, log := range s.ended {
		if log.Name == name {
			return log
		}
	}
	return nil
}

// Knows reports whether the stream with this name is or was one of this session, since it was opened or recreated.
func (s *Session) Knows(name string) bool { return s.streams.has(name) }

// streamOf returns the stream of a request or a notification of the server. On stdio, only a progress notification says to which request it belongs. The
// others belong to the latest request in progress that has a connected client, if they are not about the server as a whole.
func (s *Session) streamOf(message rpc.Message) *stream.Log {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case message.Method == "notifications/progress":
		token := string(rpc.Get(message.Params, "progressToken"))
		for _, c := range s.calls {
			if c.token == token {
				return c.group.log
			}
		}
	case message.Method == "notifications/cancelled":
		key := rpc.Key(rpc.Get(message.Params, "requestId"))
		if log, isAsked := s.asked[key]; isAsked {
			delete(s.asked, key)
			if !log.IsClosed() {
				return log
			}
		}
	case isGeneral(message.Method):
		return s.general
	}
	for _, c := range slices.Backward(s.calls) {
		if c.group.log.HasReader() {
			return c.group.log
		}
	}
	return s.general
}

// endStream ends the stream of a request, and keeps it for a while for a client that was disconnected.
func (s *Session) endStream(log *stream.Log) {
	if s.single {
		return
	}
	log.Close()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.ended = append(s.ended, log)
	if len(s.ended) > mostEnded {
		s.ended = slices.Delete(s.ended, 0, 1)
	}
}
