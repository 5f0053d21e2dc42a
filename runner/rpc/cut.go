package rpc

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// lastID matches the end of an object whose last member, besides "jsonrpc", is "id".
var lastID = regexp.MustCompile(`[,{]\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9]+)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$`)

// ResponseID returns the id of a response of which only the head and the tail are known; nil if it is none, or the id is in between.
func ResponseID(head, tail []byte) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(head))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil
	}
	var id json.RawMessage
	isResponse := false
	for {
		name, err := decoder.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		isComplete := decoder.Decode(&value) == nil
		switch name {
		case "method":
			return nil // the id is that of the server
		case "result", "error":
			isResponse = true
		case "id":
			if isComplete {
				id = value
			}
		}
		if !isComplete {
			break
		}
	}
	if !isResponse {
		return nil
	}
	if id == nil {
		if match := lastID.FindSubmatch(tail); match != nil && json.Valid(match[1]) {
			id = bytes.Clone(match[1])
		}
	}
	return id
}
