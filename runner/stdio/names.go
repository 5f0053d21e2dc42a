package stdio

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"strconv"
	"strings"
)

// mostNamedID is the length of the ids of requests that the name of a stream carries.
const mostNamedID = 64

var encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func randomText() string { return strings.ToLower(rand.Text()[:10]) }

// streamNames makes the names of the streams of a session: a part that is unique to this process of the runner, a number, and the id of the request. The
// id of a request in progress is all that another pod needs to answer it with an error after this pod is lost.
type streamNames struct {
	epoch string
	last  *int
}

func newStreamNames() streamNames { return streamNames{epoch: randomText(), last: new(int)} }

func (n streamNames) general() string { return n.epoch + ".0" }

// next returns the name of the stream of a request. The caller has the lock of the session.
func (n streamNames) next(id json.RawMessage) string {
	*n.last++
	name := n.epoch + "." + strconv.Itoa(*n.last)
	if len(id) <= mostNamedID {
		name += "." + encoding.EncodeToString(id)
	}
	return name
}

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
