package controlplane

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// corefile makes CoreDNS resolve only names of the cluster. It has no upstream, so no query leaves the namespace. Its
// arguments are the addresses to listen on and the kubeconfig.
const corefile = `.:53 {
    bind %[1]s %[2]s
    errors
    health 127.0.0.1:8053
    ready 127.0.0.1:8054
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %[3]s controlplane
        pods insecure
        ttl 1
    }
}
`

// startDNS starts CoreDNS on the first node. It returns when CoreDNS resolves the Service of kube-apiserver.
func (cp *ControlPlane) startDNS(ctx context.Context) error {
	kubeconfig, err := cp.kubeconfigFor(coreDNS, "system:coredns", "system:masters")
	if err != nil {
		return err
	}
	config := filepath.Join(cp.Dir, "Corefile")
	if err := os.WriteFile(config, fmt.Appendf(nil, corefile, nodeAddress(1), nodeAddress6(1), kubeconfig), 0o600); err != nil {
		return fmt.Errorf("configuring CoreDNS: %w", err)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return cp.namespace.DialContext(ctx, network, net.JoinHostPort(nodeAddress(1), "53"))
	}}
	answers := func(ctx context.Context) error {
		_, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
		return err
	}
	return cp.run(ctx, coreDNS, answers, "-conf", config)
}
