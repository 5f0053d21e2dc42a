package peers

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// Static is a fixed list of the pods, in the order of their ordinals. It is for pods without a headless Service, as in tests.
type Static []Peer

// ParseStatic reads a list of pods, separated by commas. Each is ADDRESS/MANAGEMENT, for example 127.0.0.1:8080/127.0.0.1:9464. The first has the ordinal 0.
func ParseStatic(list string) (Static, error) {
	var pods Static
	for one := range strings.SplitSeq(list, ",") {
		address, management, _ := strings.Cut(one, "/")
		for _, each := range []string{address, management} {
			if _, _, err := net.SplitHostPort(each); err != nil {
				return nil, fmt.Errorf("%q is not HOST:PORT/HOST:PORT: %w", one, err)
			}
		}
		pods = append(pods, Peer{Ordinal: uint16(len(pods)), Address: address, Management: management}) //nolint:gosec // at most mostPeers
		if len(pods) == mostPeers {
			break
		}
	}
	return pods, nil
}

// Peers implements Resolver.
func (s Static) Peers(context.Context) ([]Peer, error) { return s, nil }

// Peer implements Resolver.
func (s Static) Peer(ordinal uint16) Peer {
	if int(ordinal) < len(s) {
		return s[ordinal]
	}
	return Peer{Ordinal: ordinal}
}
