// Command coredns is the DNS server of a real node: CoreDNS with only the plugins that its Corefile uses.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"       // see the Corefile in package controlplane
	_ "github.com/coredns/coredns/plugin/cache"      // "
	_ "github.com/coredns/coredns/plugin/errors"     // "
	_ "github.com/coredns/coredns/plugin/health"     // "
	_ "github.com/coredns/coredns/plugin/kubernetes" // "
	_ "github.com/coredns/coredns/plugin/ready"      // "

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

func main() {
	// The order in which the plugins handle a query. It is the same as in CoreDNS.
	dnsserver.Directives = []string{"bind", "health", "ready", "errors", "cache", "kubernetes"}
	coremain.Run()
}
