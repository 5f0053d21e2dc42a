package cluster

import (
	"context"
	"fmt"
)

// metricsAPI registers a server of metrics. The Service has the type ExternalName because an EndpointSlice must not contain a loopback address. The
// arguments are the group, the version and the port.
const metricsAPI = `apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost, ports: [{port: %[3]s}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: %[2]s.%[1]s.metrics.k8s.io}
spec:
  group: %[1]s.metrics.k8s.io
  version: %[2]s
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: %[1]s, namespace: kube-system, port: %[3]s}
`

// RegisterMetricsAPI makes the API server serve the API kind.metrics.k8s.io through a server at a port of this machine, and returns when it does.
func (c *Cluster) RegisterMetricsAPI(ctx context.Context, kind, version, port string) error {
	if _, err := c.KubectlWithInput(ctx, fmt.Sprintf(metricsAPI, kind, version, port), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	_, err := c.Kubectl(ctx, "wait", "--for=condition=Available", "--timeout=60s", "apiservice/"+version+"."+kind+".metrics.k8s.io")
	return err
}
