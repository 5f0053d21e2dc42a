package peers

import (
	"hash/fnv"
	"slices"
)

// winner returns the pod that takes a session: the one with the highest hash of the session and its ordinal (rendezvous hashing). All pods that know
// the same candidates choose the same one, and if a candidate is gone, only its sessions get another. It requires at least one candidate.
func winner(id string, candidates []uint16) uint16 {
	return slices.MaxFunc(candidates, func(a, b uint16) int {
		switch x, y := weight(id, a), weight(id, b); {
		case x < y:
			return -1
		case x > y:
			return 1
		default:
			return int(a) - int(b)
		}
	})
}

func weight(id string, ordinal uint16) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(id))
	_, _ = hash.Write([]byte{byte(ordinal >> 8), byte(ordinal)})
	// FNV changes the high bits little for the last bytes: mix them (the finalizer of MurmurHash3).
	sum := hash.Sum64()
	sum ^= sum >> 33
	sum *= 0xff51afd7ed558ccd
	sum ^= sum >> 33
	sum *= 0xc4ceb9fe1a85ec53
	return sum ^ sum>>33
}
