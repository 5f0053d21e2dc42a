package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// portName is the name of the port of the headless Service that clients use.
const portName = "mcp"

// DNS finds the pods of a StatefulSet in the records of its headless Service. All pods listen on the same ports.
type DNS struct {
	name, service       string
	namespace           string // empty if it is not known
	clients, management string
	lookup              func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// NewDNS returns a resolver for the StatefulSet of a pod, NAME-ORDINAL. Service is the name of its headless Service. The addresses are those on which this
// pod listens for clients and for the other pods; the port counts.
func NewDNS(pod, service, clients, management string) (*DNS, error) {
	name, _, found := CutOrdinal(pod)
	if !found {
		return nil, fmt.Errorf("%q is not the name of a pod of a StatefulSet, NAME-ORDINAL", pod)
	}
	d := &DNS{name: name, service: service, namespace: namespaceIn(resolverFile), lookup: net.DefaultResolver.LookupSRV}
	var err error
	if d.clients, err = portOf(clients); err != nil {
		return nil, err
	}
	if d.management, err = portOf(management); err != nil {
		return nil, err
	}
	return d, nil
}

// resolverFile is the configuration of DNS that the kubelet writes.
const resolverFile = "/etc/resolv.conf"

// namespaceIn returns the namespace of a pod, from the search domains in its configuration of DNS: the first one is NAMESPACE.svc.DOMAIN. It is empty
// if the pod has another configuration.
func namespaceIn(file string) string {
	content, err := os.ReadFile(file) //nolint:gosec // a path of this package
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "search" {
			if namespace, rest, _ := strings.Cut(fields[1], "."); strings.HasPrefix(rest, "svc.") {
				return namespace
			}
		}
	}
	return ""
}

func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("reading an address to listen on: %w", err)
	}
	return port, nil
}

// Peers implements Resolver.
func (d *DNS) Peers(ctx context.Context) ([]Peer, error) {
	_, records, err := d.lookup(ctx, portName, "tcp", d.service)
	if err != nil && len(records) == 0 {
		return nil, fmt.Errorf("looking up the SRV records of %s: %w", d.service, err)
	}
	peers := make([]Peer, 0, len(records))
	for _, record := range records {
		pod, _, _ := strings.Cut(record.Target, ".")
		if name, ordinal, found := CutOrdinal(pod); found && name == d.name {
			peers = append(peers, d.peer(ordinal, record.Target))
		}
	}
	return peers, nil
}

// Peer implements Resolver.
func (d *DNS) Peer(ordinal uint16) Peer {
	return d.peer(ordinal, d.name+"-"+strconv.Itoa(int(ordinal))+"."+d.service)
}

func (d *DNS) peer(ordinal uint16, host string) Peer {
	return Peer{Ordinal: ordinal, Address: net.JoinHostPort(host, d.clients), Management: net.JoinHostPort(host, d.management)}
}

// CutOrdinal splits the name of a pod of a StatefulSet, NAME-ORDINAL.
func CutOrdinal(pod string) (name string, ordinal uint16, found bool) {
	dash := strings.LastIndexByte(pod, '-')
	if dash < 1 {
		return "", 0, false
	}
	number, err := strconv.ParseUint(pod[dash+1:], 10, 16)
	if err != nil || strconv.FormatUint(number, 10) != pod[dash+1:] {
		return "", 0, false
	}
	return pod[:dash], uint16(number), true
}
