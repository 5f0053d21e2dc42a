package rpc

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestMessagesAreToldApart(t *testing.T) {
	for raw, want := range map[string]Kind{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:               Request,
		`{"jsonrpc":"2.0","id":"a","method":"ping"}`:             Request,
		`{"jsonrpc":"2.0","id":null,"method":"ping"}`:            Notification,
		`{"jsonrpc":"2.0","method":"notifications/x"}`:           Notification,
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                   Response,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-1}}`:        Response,
		"{\"jsonrpc\":\"2.0\",\r\n\"id\":1,\"method\":\"ping\"}": Request,
	} {
		if got, err := Parse([]byte(raw)); err != nil || got.Kind != want {
			t.Errorf("%s: got %v, %v", raw, got.Kind, err)
		}
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	for _, raw := range []string{
		`1`, `[]`, `{}`, `{"jsonrpc":"1.0","id":1,"method":"a"}`, `{"jsonrpc":"2.0","id":{},"method":"a"}`,
		`{"jsonrpc":"2.0","id":1}`, `{"jsonrpc":"2.0","id":1,"method":2}`, `{"JSONRPC":"2.0","id":1,"METHOD":"a"}`,
	} {
		if got, err := Parse([]byte(raw)); !errors.Is(err, ErrNotRPC) {
			t.Errorf("%s: got %+v, %v", raw, got, err)
		}
	}
	if _, err := Parse([]byte(`{"jsonrpc"`)); err == nil || errors.Is(err, ErrNotRPC) {
		t.Errorf("got %v", err)
	}
}

func TestAMessageStaysAsItWasWritten(t *testing.T) {
	raw := `{ "x-unknown":1.50, "id":1.0,"jsonrpc":"2.0","method":"a","params":{"big":12345678901234567890} }`
	got, err := Parse([]byte(raw))
	if err != nil || string(got.Raw) != raw || string(got.ID) != "1.0" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","params":{}}`))
	f.Add([]byte("[{\"jsonrpc\":\"2.0\",\n\"method\":\"a\"}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		messages, _, err := ParseBody(raw)
		if err != nil {
			return
		}
		for _, message := range messages {
			if !json.Valid(message.Raw) {
				t.Errorf("%q is not JSON", message.Raw)
			}
			for _, c := range message.Raw {
				if c == '\n' || c == '\r' {
					t.Errorf("%q has a line break", message.Raw)
				}
			}
		}
	})
}
