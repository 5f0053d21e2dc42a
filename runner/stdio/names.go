package stdio

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"strings"
)

// mostNamedID is the length of the ids of requests that the name of a stream carries.
const mostNamedID = 64

var encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func randomText() string { return strings.ToLower(rand.Text()[:10]) }

func (n streamNames) has(name string) bool {
	epoch, _, _ := strings.Cut(name, ".")
	return epoch == n.epoch
}

// RequestOf returns the id of the request to which a stream belongs, by the name of the stream; nil if it belongs to none, or the name does not tell.
func RequestOf(name string) json.RawMessage {
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return nil
	}
	id, err := encoding.DecodeString(parts[2])
	if err != nil || len(id) > mostNamedID || !json.Valid(id) {
		return nil
	}
	return id
}
