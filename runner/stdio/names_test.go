package stdio

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTheNameOfAStreamTellsItsRequest(t *testing.T) {
	names := newStreamNames()
	for _, id := range []string{"1", `"a-b.c"`, `"` + strings.Repeat("x", mostNamedID-2) + `"`} {
		name := names.next(json.RawMessage(id))
		if got := string(RequestOf(name)); got != id || !names.has(name) || strings.ContainsAny(name, "-\r\n") {
			t.Errorf("%s: the name %q tells %q", id, name, got)
		}
	}
	for _, name := range []string{names.general(), names.next(json.RawMessage(`"` + strings.Repeat("x", mostNamedID) + `"`)), "", "a.b.c", "a.1.vv"} {
		if got := RequestOf(name); got != nil {
			t.Errorf("%q tells %s", name, got)
		}
	}
	if names.has(newStreamNames().general()) {
		t.Error("two sessions have the same names")
	}
}

func FuzzRequestOf(f *testing.F) {
	f.Add("epoch.1.64")
	f.Fuzz(func(t *testing.T, name string) {
		if id := RequestOf(name); id != nil && !json.Valid(id) {
			t.Errorf("%q tells %q", name, id)
		}
	})
}
