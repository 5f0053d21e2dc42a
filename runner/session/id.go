// Package session has the ids of MCP sessions and the table of the sessions of this pod. A session id says how to recreate the session after its
// pod is lost, and where it was opened. It is not a secret beyond its 128 random bits, and it gives no more than the request initialize gives.
package session

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"mcpserver-operator/runner/rpc"
)

// Record is what a session id carries.
type Record struct {
	// Ordinal is the ordinal of the pod that opened the session, from 0 to 65535.
	Ordinal uint16
	// Start is the time when the runner of that pod started, in seconds since 1970. A pod that is replaced keeps its ordinal.
	Start uint32
	// Version is the negotiated protocol version; empty if it is unknown.
	Version string
	// Capabilities are those of the client.
	Capabilities Capabilities
	// Random makes the id unique and hard to guess.
	Random [16]byte
}

// New returns a record of a new session.
func New(ordinal uint16, start uint32) Record {
	record := Record{Ordinal: ordinal, Start: start}
	_, _ = rand.Read(record.Random[:]) // never fails, see crypto/rand
	return record
}

// format is the first byte of an id. Another format gets another number, so that two versions of the runner tell their ids apart. A runner refuses
// ids of a format that it does not know: a new format must be read by one release before the next release makes such ids.
const format = 1

const idBytes = 1 + 1 + 2 + 4 + 4 + 16

// encoding uses lower case letters and digits only. Some gateways accept at most 128 letters, digits and dashes in a session id.
var encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ID returns the session id of a record.
func (r Record) ID() string {
	raw := make([]byte, 0, idBytes)
	raw = append(raw, format, byte(slices.Index(rpc.Legacy, r.Version)+1)) //nolint:gosec // there are few versions
	raw = binary.BigEndian.AppendUint16(raw, r.Ordinal)
	raw = binary.BigEndian.AppendUint32(raw, r.Start)
	raw = binary.BigEndian.AppendUint32(raw, uint32(r.Capabilities))
	return encoding.EncodeToString(append(raw, r.Random[:]...))
}

// ErrInvalidID is the error of Parse.
var ErrInvalidID = errors.New("not a session id of this server")

// Parse returns the record of a session id. It fails with ErrInvalidID if the id was not made by Record.ID.
func Parse(id string) (Record, error) {
	if len(id) != encoding.EncodedLen(idBytes) {
		return Record{}, ErrInvalidID
	}
	raw, err := encoding.DecodeString(id)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalidID, err)
	}
	// The decoder skips line breaks.
	if len(raw) != idBytes || raw[0] != format || int(raw[1]) > len(rpc.Legacy) {
		return Record{}, ErrInvalidID
	}
	record := Record{
		Ordinal:      binary.BigEndian.Uint16(raw[2:]),
		Start:        binary.BigEndian.Uint32(raw[4:]),
		Capabilities: Capabilities(binary.BigEndian.Uint32(raw[8:])),
		Random:       [16]byte(raw[12:]),
	}
	if raw[1] > 0 {
		record.Version = rpc.Legacy[raw[1]-1]
	}
	if record.ID() != id { // unused bits of the last character
		return Record{}, ErrInvalidID
	}
	return record, nil
}

// Short returns the part of a session id that is written to logs. It does not suffice to use the session.
func Short(id string) string { return id[max(0, len(id)-8):] }
