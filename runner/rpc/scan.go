package rpc

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
)

// span is the position of a value in a text.
type span struct{ start, end int }

// Get returns the value of a member, by the names of the members that lead to it; nil if there is none. raw must be valid JSON. If an object has
// a member twice, the last member counts, as in encoding/json.
func Get(raw []byte, path ...string) json.RawMessage {
	if at, found := find(raw, path); found {
		return raw[at.start:at.end]
	}
	return nil
}

// GetString returns the value of a member that is a string.
func GetString(raw []byte, path ...string) (value string, found bool) {
	member := Get(raw, path...)
	if len(member) == 0 || member[0] != '"' {
		return "", false
	}
	return unquote(member), true
}

// Replace returns a copy of raw in which a member has another value. All other bytes stay. It returns raw if there is no such member. raw must be
// valid JSON.
func Replace(raw, value json.RawMessage, path ...string) json.RawMessage {
	at, found := find(raw, path)
	if !found {
		return raw
	}
	return slices.Concat(raw[:at.start], value, raw[at.end:])
}

func find(raw []byte, path []string) (span, bool) {
	at := span{skipSpace(raw, 0), len(raw)}
	for _, name := range path {
		var member span
		found := false
		for key, value := range members(raw[:at.end], at.start) {
			if key == name {
				member, found = value, true
			}
		}
		if !found {
			return span{}, false
		}
		at = member
	}
	return at, true
}

// members iterates over the members of the object that begins at start; there are none if the value is no object.
func members(raw []byte, start int) iter.Seq2[string, span] {
	return func(yield func(string, span) bool) {
		if start >= len(raw) || raw[start] != '{' {
			return
		}
		for i := skipSpace(raw, start+1); i < len(raw) && raw[i] == '"'; i = skipSpace(raw, i+1) {
			end := skipValue(raw, i)
			key := raw[i:end]
			value := skipSpace(raw, skipSpace(raw, end)+1) // after the colon
			i = skipValue(raw, value)
			if !yield(unquote(key), span{value, i}) {
				return
			}
			if i = skipSpace(raw, i); i >= len(raw) || raw[i] != ',' {
				return
			}
		}
	}
}

func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var value string
	_ = json.Unmarshal(raw, &value) // raw is valid
	return value
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the value that begins at i.
func skipValue(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			i = min(i+1, len(raw))
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default: // a number, true, false, null
			for i < len(raw) && !bytes.ContainsRune([]byte(",:]} \t\n\r"), rune(raw[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}
