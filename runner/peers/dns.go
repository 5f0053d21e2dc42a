package peers

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DNS finds the pods by the SRV records of their headless Service, which publishes pods that are not ready.
type DNS struct {
	// Set is the name of the StatefulSet. The first label of a pod's name in DNS is SET-ORDINAL.
	Set string
	// Service is the name of the headless Service.
	Service string
	// Port is the name of the port at which clients call.
	Port string
	// ManagementPort is the port at which runners call each other.
	ManagementPort string
	// LookupSRV is net.Resolver.LookupSRV.
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Peers returns the pods.
func (d *DNS) Peers(ctx context.Context) ([]Peer, error) {
	_, records, err := d.LookupSRV(ctx, d.Port, "tcp", d.Service)
	if err != nil {
		return nil, fmt.Errorf("finding the pods of Service %q: %w", d.Service, err)
	}
	var found []Peer
	for _, record := range records {
		label, _, _ := strings.Cut(record.Target, ".")
		number, isOfSet := strings.CutPrefix(label, d.Set+"-")
		ordinal, err := strconv.ParseUint(number, 10, 16)
		if !isOfSet || err != nil || len(found) == maxPeers {
			continue // not a pod of the StatefulSet
		}
		host := strings.TrimSuffix(record.Target, ".")
		found = append(found, Peer{
			Ordinal: uint16(ordinal), Address: net.JoinHostPort(host, strconv.Itoa(int(record.Port))), Management: net.JoinHostPort(host, d.ManagementPort),
		})
	}
	return found, nil
}
