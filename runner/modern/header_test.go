package modern

import (
	"encoding/base64"
	"testing"
)

func FuzzDecode(f *testing.F) {
	f.Add("name", "a tool")
	f.Add("=?base64?YQ==?=", "caf\u00e9")
	f.Add("=?base64?*?=", "")
	f.Add("=?base64??=", "=?base64?")
	f.Fuzz(func(t *testing.T, header, name string) {
		if value, isValid := decode(header); !isValid && value == header && header != "" {
			t.Errorf("%q is passed on although it is invalid", header)
		}
		if got, isValid := decode("=?base64?" + base64.StdEncoding.EncodeToString([]byte(name)) + "?="); !isValid || got != name {
			t.Errorf("the name %q is decoded as %q", name, got)
		}
	})
}
