package controlplane

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/rest"
)

// metricsAPI registers metrics-server with the aggregation layer. The Service has the type ExternalName because an
// EndpointSlice must not contain a loopback address. The argument is the port.
const metricsAPI = `apiVersion: v1
kind: Service
metadata:
  name: metrics-server
  namespace: kube-system
spec:
  type: ExternalName
  externalName: localhost
  ports:
  - port: %[1]s
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata:
  name: v1beta1.metrics.k8s.io
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service:
    name: metrics-server
    namespace: kube-system
    port: %[1]s
`

// startMetricsServer starts metrics-server and waits until kube-apiserver serves metrics.k8s.io through it.
func (cp *ControlPlane) startMetricsServer(ctx context.Context) error {
	kubeconfig, err := cp.kubeconfigFor(MetricsServer, "system:metrics-server", "system:masters")
	if err != nil {
		return err
	}
	ports, err := FreePorts(1)
	if err != nil {
		return err
	}
	manifest := filepath.Join(cp.Dir, "metrics-api.yaml")
	if err := os.WriteFile(manifest, fmt.Appendf(nil, metricsAPI, ports[0]), 0o600); err != nil {
		return fmt.Errorf("writing the metrics API: %w", err)
	}
	if out, err := exec.CommandContext(ctx, cp.Kubectl(), "--kubeconfig="+cp.Kubeconfig,
		"apply", "--server-side", "-f", manifest).CombinedOutput(); err != nil {
		return fmt.Errorf("registering the metrics API: %w: %s", err, out)
	}
	client, err := rest.HTTPClientFor(cp.Config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	served := answersOK(client, cp.Config.Host+"/apis/metrics.k8s.io/v1beta1/nodes")
	return cp.run(ctx, MetricsServer, served,
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port="+ports[0],
		"--tls-cert-file="+filepath.Join(cp.Dir, MetricsServer+".crt"),
		"--tls-private-key-file="+filepath.Join(cp.Dir, MetricsServer+".key"),
		"--kubelet-insecure-tls", "--kubelet-use-node-status-port",
		"--kubelet-preferred-address-types=InternalIP", // the node names do not resolve outside the nodes
		"--kubelet-request-timeout=5s", "--metric-resolution=10s")
}
