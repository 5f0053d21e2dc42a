package peers

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// weight is the weight of a pod for a session. The pod with the highest weight takes a session that lost its pod (rendezvous hashing): all pods find the
// same one, and a pod that comes or goes changes the result for few sessions. The function must not change: two versions of the runner work side by side.
func weight(id string, ordinal uint16) uint64 {
	sum := sha256.Sum256(binary.BigEndian.AppendUint16([]byte(id), ordinal))
	return binary.BigEndian.Uint64(sum[:])
}

// outranks reports whether the pod a comes before the pod b for a session.
func outranks(id string, a, b uint16) bool {
	first, second := weight(id, a), weight(id, b)
	return first > second || (first == second && a < b)
}

// rank sorts pods for a session: the first takes it, or else the next.
func rank(id string, ordinals []uint16) []uint16 {
	ordinals = slices.Clone(ordinals)
	slices.SortFunc(ordinals, func(a, b uint16) int {
		switch {
		case a == b:
			return 0
		case outranks(id, a, b):
			return -1
		default:
			return 1
		}
	})
	return ordinals
}
