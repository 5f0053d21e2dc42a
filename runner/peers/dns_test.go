package peers

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPeersAreFoundByDNS(t *testing.T) {
	dns, err := NewDNS("web-1-7", "mcp-web-headless", ":8080", "0.0.0.0:9464")
	if err != nil {
		t.Fatal(err)
	}
	const domain = ".mcp-web-headless.ns.svc.cluster.local."
	dns.lookup = func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		if service != "mcp" || proto != "tcp" || name != "mcp-web-headless" {
			t.Errorf("looked for %s %s %s", service, proto, name)
		}
		return "", []*net.SRV{
			{Target: "web-1-0" + domain}, {Target: "web-1-12" + domain}, {Target: "web-1-012" + domain}, {Target: "web-10-1" + domain},
			{Target: "10-0-0-1" + domain}, {Target: "web-1-99999" + domain}, {Target: "."},
		}, nil
	}
	got, err := dns.Peers(t.Context())
	want := []Peer{{0, "web-1-0" + domain + ":8080", "web-1-0" + domain + ":9464"}, {12, "web-1-12" + domain + ":8080", "web-1-12" + domain + ":9464"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, want := dns.Peer(3), (Peer{3, "web-1-3.mcp-web-headless:8080", "web-1-3.mcp-web-headless:9464"}); got != want {
		t.Errorf("got %v", got)
	}
	dns.lookup = func(context.Context, string, string, string) (string, []*net.SRV, error) {
		return "", nil, errors.New("no DNS")
	}
	if _, err := dns.Peers(t.Context()); err == nil {
		t.Error("an error is no empty list")
	}
	for _, pod := range []string{"", "web", "web-", "-1", "web-01", "web-65536"} {
		if _, err := NewDNS(pod, "s", ":1", ":2"); err == nil {
			t.Errorf("%q is not the name of a pod of a StatefulSet", pod)
		}
	}
}

func TestAListIsSortedAndBounded(t *testing.T) {
	var peers []Peer
	for ordinal := range 5000 {
		peers = append(peers, Peer{Ordinal: uint16(4999 - ordinal)}, Peer{Ordinal: uint16(ordinal)})
	}
	got := normal(peers, 3)
	if len(got) != mostPeers || got[0].Ordinal != 0 || got[3].Ordinal != 4 || got[mostPeers-1].Ordinal != mostPeers {
		t.Errorf("got %d peers, %v", len(got), got[:5])
	}
}

func TestTheNamespaceIsThatOfTheSearchDomains(t *testing.T) {
	for content, want := range map[string]string{
		"nameserver 10.0.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n": "prod",
		"search svc.cluster.local\n": "", "search example.com\n": "", "search\n": "", "": "",
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := namespaceIn(file); got != want {
			t.Errorf("%q: got %q", content, got)
		}
	}
	if got := namespaceIn("/nonexistent"); got != "" {
		t.Errorf("got %q", got)
	}
}
