// Command etcd is the data store of the control plane.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"mcpserver-operator/tests/controlplane/components/internal/parent"
)

func main() {
	parent.ExitWith()
	etcdmain.Main(os.Args)
}
