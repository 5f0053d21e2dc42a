package rpc

import (
	"strings"
	"testing"
)

func TestTheIDOfAResponseOfWhichTheMiddleIsMissing(t *testing.T) {
	long := strings.Repeat(`"x",`, 1000)
	for line, want := range map[string]string{
		`{"jsonrpc":"2.0","id":7,"result":[` + long + `1]}`:                       `7`,
		`{"jsonrpc":"2.0","id":"a\"b","error":{"data":[` + long + `1]}}`:          `"a\"b"`,
		`{"result":{"a":[` + long + `1]},"jsonrpc":"2.0","id":8}`:                 `8`,
		`{"result":{"a":[` + long + `1]},"id":"c", "jsonrpc":"2.0"} `:             `"c"`,
		`{"result":{"a":[` + long + `1],"id":9}}`:                                 ``, // a member of the result
		`{"result":[` + long + `"\"id\":9}"]}`:                                    ``,
		`{"method":"x","params":[` + long + `1],"jsonrpc":"2.0","id":1}`:          ``, // a request of the server
		`{"jsonrpc":"2.0","id":1,"method":"x","params":[` + long + `1]}`:          ``,
		`{"params":[` + long + `1],"method":"x","id":1}`:                          ``,
		`[` + long + `{"id":1}]`:                                                  ``,
		`this is a log line ` + long + `"id":1}`:                                  ``,
		`{"jsonrpc":"2.0","result":"` + strings.Repeat("y", 4000) + `","id":-12}`: `-12`,
	} {
		if got := string(ResponseID([]byte(line[:500]), []byte(line[len(line)-500:]))); got != want {
			t.Errorf("%.40s…%s: got %s", line, line[len(line)-30:], got)
		}
	}
}

func FuzzResponseID(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"result":["x`), []byte(`x"]}`))
	f.Add([]byte(`{"result":{"a":"x`), []byte(`x"},"jsonrpc":"2.0","id":"a\"b"}`))
	f.Add([]byte(`{"id`), []byte(`"id":`))
	f.Add([]byte(`{"id":1,"result":`), []byte(``))
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		id := ResponseID(head, tail)
		if id == nil {
			return
		}
		if _, err := Parse(Error(id, Unavailable, "x", nil)); err != nil {
			t.Errorf("the id %s makes no response: %v", id, err)
		}
	})
}
