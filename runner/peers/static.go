package peers

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Static are pods whose addresses do not change, for runners that cannot find each other in DNS, for example on one machine.
type Static []Peer

// ParseStatic reads ORDINAL=ADDRESS/MANAGEMENT of each pod, separated by commas. Both addresses are HOST:PORT.
func ParseStatic(text string) (Static, error) {
	var all Static
	for one := range strings.SplitSeq(text, ",") {
		number, addresses, _ := strings.Cut(one, "=")
		address, management, _ := strings.Cut(addresses, "/")
		ordinal, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is not ORDINAL=HOST:PORT/HOST:PORT: %w", one, err)
		}
		for _, part := range []string{address, management} {
			if _, _, err := net.SplitHostPort(part); err != nil {
				return nil, fmt.Errorf("%q is not ORDINAL=HOST:PORT/HOST:PORT: %w", one, err)
			}
		}
		all = append(all, Peer{Ordinal: uint16(ordinal), Address: address, Management: management})
	}
	return all, nil
}

// Peers implements Resolver.
func (s Static) Peers(context.Context) ([]Peer, error) { return s, nil }

// Peer implements Resolver. A pod that is not in the list has no address.
func (s Static) Peer(ordinal uint16) Peer {
	for _, peer := range s {
		if peer.Ordinal == ordinal {
			return peer
		}
	}
	return Peer{Ordinal: ordinal}
}
