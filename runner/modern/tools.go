package modern

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/stdio"
)

const (
	// fresh is how long the list of tools is used before it is read again, in the background.
	fresh = 10 * time.Second
	// mostPages bounds the list of tools of a server whose list has no end.
	mostPages = 100
	// mostDepth bounds the depth of the schema of a tool.
	mostDepth   = 16
	paramPrefix = "Mcp-Param-"
)

// binding is a parameter of a tool that a header repeats.
type binding struct {
	header string
	path   []string
}

// tools knows which parameters of tools are repeated in headers: those with the member x-mcp-header in the schema of the tool.
type tools struct {
	reading singleflight.Group

	mutex    sync.Mutex
	bindings map[string][]binding
	read     time.Time
}

// check compares the headers Mcp-Param-* of a call with its arguments.
func (t *tools) check(r *http.Request, shared *stdio.Shared, tool string, params json.RawMessage) *refusal {
	for _, b := range t.of(r.Context(), shared, tool) {
		name := paramPrefix + b.header
		header := r.Header.Get(name)
		argument := rpc.Get(params, append([]string{"arguments"}, b.path...)...)
		if argument == nil || string(argument) == "null" {
			if header != "" {
				return badRequest(rpc.HeaderMismatch, "the header %s repeats a parameter that the request does not have", name)
			}
			continue
		}
		value, isValid := decode(header)
		if header == "" || !isValid || !isEqual(value, argument) {
			return badRequest(rpc.HeaderMismatch, "the header %s differs from the parameter", name)
		}
	}
	return nil
}

// isEqual reports whether the text of a header means the same as a JSON value.
func isEqual(text string, value json.RawMessage) bool {
	if inBody, isText := rpc.GetString(value); isText {
		return text == inBody
	}
	if text == string(value) {
		return text == "true" || text == "false" || isNumber(text)
	}
	inHeader, err := strconv.ParseFloat(text, 64)
	inBody, err2 := strconv.ParseFloat(string(value), 64)
	return err == nil && err2 == nil && inHeader == inBody && math.Abs(inHeader) <= 1<<53
}

func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

// of returns the bindings of a tool. If the list of tools cannot be read, there are none: the server then checks or answers with an error.
func (t *tools) of(ctx context.Context, shared *stdio.Shared, tool string) []binding {
	t.mutex.Lock()
	known, age := t.bindings, time.Since(t.read)
	t.mutex.Unlock()
	if known == nil || age > fresh {
		result := t.reading.DoChan("", func() (any, error) {
			reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), fresh)
			defer cancel()
			bindings := list(reading, shared)
			t.mutex.Lock()
			defer t.mutex.Unlock()
			t.bindings, t.read = bindings, time.Now()
			return nil, nil
		})
		if known == nil {
			select {
			case <-result:
			case <-ctx.Done():
			}
		}
		t.mutex.Lock()
		known = t.bindings
		t.mutex.Unlock()
	}
	return known[tool]
}

func list(ctx context.Context, shared *stdio.Shared) map[string][]binding {
	bindings := map[string][]binding{}
	params := map[string]any{"_meta": stdio.Meta()}
	for range mostPages {
		answer, err := shared.Ask(ctx, "tools/list", params)
		if err != nil || answer.Result == nil {
			return bindings
		}
		var page struct {
			Tools []struct {
				Name        string          `json:"name"`
				InputSchema json.RawMessage `json:"inputSchema"`
			} `json:"tools"`
			NextCursor *string `json:"nextCursor"`
		}
		if json.Unmarshal(answer.Result, &page) != nil {
			return bindings
		}
		for _, tool := range page.Tools {
			if found := bindingsOf(tool.InputSchema, nil, nil); len(found) > 0 {
				bindings[tool.Name] = found
			}
		}
		if page.NextCursor == nil || *page.NextCursor == "" {
			return bindings
		}
		params["cursor"] = *page.NextCursor
	}
	return bindings
}

func bindingsOf(schema json.RawMessage, path []string, found []binding) []binding {
	var properties map[string]json.RawMessage
	if len(path) >= mostDepth || json.Unmarshal(rpc.Get(schema, "properties"), &properties) != nil {
		return found
	}
	for name, property := range properties {
		at := append(append([]string(nil), path...), name)
		if header, isText := rpc.GetString(property, "x-mcp-header"); isText && header != "" {
			found = append(found, binding{header, at})
		}
		found = bindingsOf(property, at, found)
	}
	return found
}
