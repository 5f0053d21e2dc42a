package rpc

import (
	"encoding/json"
	"testing"
)

func TestAMemberIsFoundByItsPath(t *testing.T) {
	raw := []byte(` { "a" : {"b\"" : [1,{"c":2}, "x}"] , "d": -1.5e3 }, "e":"\u0041","e":null, "f":{}, "g":[] } `)
	for _, row := range []struct {
		path []string
		want string
	}{
		{[]string{"a", `b"`}, `[1,{"c":2}, "x}"]`},
		{[]string{"a", "d"}, `-1.5e3`},
		{[]string{"e"}, `null`},
		{[]string{"f"}, `{}`},
		{[]string{"g"}, `[]`},
		{[]string{"A"}, ``},
		{[]string{"a", "d", "x"}, ``},
		{[]string{"a", "c"}, ``},
	} {
		if got := Get(raw, row.path...); string(got) != row.want {
			t.Errorf("%v: got %q, want %q", row.path, got, row.want)
		}
	}
}

func TestAReplacedMemberLeavesAllOtherBytes(t *testing.T) {
	raw := []byte(`{"id" : 1,  "params":{"_meta":{ "progressToken":"x" , "y":1.0}}}`)
	got := Replace(raw, []byte(`7`), "params", "_meta", "progressToken")
	if want := `{"id" : 1,  "params":{"_meta":{ "progressToken":7 , "y":1.0}}}`; string(got) != want {
		t.Errorf("got %s", got)
	}
	if got := Replace(raw, []byte(`7`), "params", "none"); string(got) != string(raw) {
		t.Errorf("got %s", got)
	}
}

func TestIDsThatMeanTheSameHaveTheSameKey(t *testing.T) {
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{`1`, `1`, true}, {`1`, `"1"`, false}, {`1`, `1.0`, true}, {`"a/b"`, `"a\/b"`, true}, {`9007199254740993`, `9007199254740992`, false},
		{`1e2`, `100`, true}, {`1.5`, `1.50`, true},
	} {
		if got := Key([]byte(row.a)) == Key([]byte(row.b)); got != row.same {
			t.Errorf("%s and %s: %t", row.a, row.b, got)
		}
	}
}

func FuzzGet(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"\\\"",{}]},"c":null}`), "a", "b")
	f.Fuzz(func(t *testing.T, raw []byte, first, second string) {
		if !json.Valid(raw) {
			return
		}
		got := Get(raw, first, second)
		var outer, inner map[string]json.RawMessage
		if json.Unmarshal(raw, &outer) == nil {
			_ = json.Unmarshal(outer[first], &inner)
		}
		if want := inner[second]; string(got) != string(want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got != nil && !json.Valid(Replace(raw, []byte("0"), first, second)) {
			t.Error("a replaced member makes the message invalid")
		}
	})
}
