package controlplane

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// auditPolicy records each request once, without bodies. For writes of StatefulSets it also records the bodies, so that
// tests can see the state of the object after the write.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: RequestResponse
  verbs: [create, update, patch]
  resources: [{group: apps, resources: [statefulsets, statefulsets/scale]}]
  omitManagedFields: true
- level: Metadata
`

// startServing starts etcd and kube-apiserver and sets up the credentials of the administrator.
func (cp *ControlPlane) startServing(ctx context.Context, options Options) error {
	ports, err := FreePorts(3)
	if err != nil {
		return err
	}
	etcdClient, etcdPeer := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	durability := "--unsafe-no-fsync" // the state is only needed during the run
	if options.Durable {
		durability = "--unsafe-no-fsync=false"
	}
	if err := cp.run(ctx, Etcd, cp.answers(cp.namespace, etcdClient+"/health"),
		"--data-dir="+filepath.Join(cp.Dir, "etcd"),
		"--listen-client-urls="+etcdClient, "--advertise-client-urls="+etcdClient,
		"--listen-peer-urls="+etcdPeer, "--initial-advertise-peer-urls="+etcdPeer,
		"--initial-cluster=default="+etcdPeer,
		"--quota-backend-bytes=8589934592", // 8 GiB: with the default of 2 GiB, make bench may not fit
		durability,
	); err != nil {
		return err
	}

	serving, err := cp.authority.issue(KubeAPIServer, "kube-apiserver")
	if err != nil {
		return err
	}
	// The identity that kube-apiserver uses when it forwards a user's request to an aggregated API server.
	frontProxy, err := cp.authority.issue("front-proxy", "front-proxy-client")
	if err != nil {
		return err
	}
	if _, err := newKey(cp.serviceAccountKey()); err != nil {
		return err
	}
	policy := filepath.Join(cp.Dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	address, kubelets := "127.0.0.1", playedNodeArgs
	if cp.namespace != nil {
		if address, kubelets, err = cp.realNodeArgs(); err != nil {
			return err
		}
	}
	cp.address = "https://" + net.JoinHostPort(address, ports[2])
	outside := cp.address
	if cp.namespace != nil {
		if cp.entrance, err = openEntrance(cp.namespace, net.JoinHostPort(address, ports[2])); err != nil {
			return err
		}
		outside = "https://" + cp.entrance.address()
	}
	if cp.Kubeconfig, err = cp.kubeconfigAt(outside, "admin", "admin", "system:masters"); err != nil {
		return err
	}
	if cp.Config, err = clientcmd.BuildConfigFromFlags("", cp.Kubeconfig); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	cp.Config.QPS = -1 // no client-side limit: API Priority and Fairness limits requests on the server
	client, err := rest.HTTPClientFor(cp.Config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return cp.run(ctx, KubeAPIServer, answersOK(client, outside+"/readyz"), slices.Concat([]string{
		"--etcd-servers=" + etcdClient,
		"--bind-address=" + address, "--advertise-address=" + address, "--secure-port=" + ports[2],
		"--tls-cert-file=" + serving.cert, "--tls-private-key-file=" + serving.key,
		"--client-ca-file=" + cp.authority.file(),
		// On some distributions, setting blockOwnerDeletion in an owner reference requires an extra permission. This plugin enforces it.
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + cp.serviceAccountKey(),
		"--service-account-signing-key-file=" + cp.serviceAccountKey(),
		"--proxy-client-cert-file=" + frontProxy.cert, "--proxy-client-key-file=" + frontProxy.key,
		"--requestheader-client-ca-file=" + cp.authority.file(),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--audit-policy-file=" + policy, "--audit-log-path=" + cp.AuditLog,
		"--audit-log-maxsize=10000", // megabytes; large enough that the log is never rotated
	}, kubelets, options.APIServerArgs)...)
}

// playedNodeArgs are the kube-apiserver arguments for a control plane without real nodes.
var playedNodeArgs = []string{
	"--authorization-mode=RBAC",
	"--endpoint-reconciler-type=none", // an Endpoints object may not hold a loopback address
	// The IPv6 range serves Services that request IPv6.
	"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
}

func (cp *ControlPlane) serviceAccountKey() string {
	return filepath.Join(cp.Dir, "service-account.key")
}

// startControllerManager starts kube-controller-manager. Its horizontal autoscaler reacts within seconds.
func (cp *ControlPlane) startControllerManager(ctx context.Context, node NodeKind) error {
	var nodeArgs []string
	if node == Real {
		// The kubelet of a real node renews its lease every 2 s, so that a lost node is noticed soon.
		nodeArgs = []string{"--node-monitor-grace-period=12s", "--node-monitor-period=2s"}
	}
	return cp.runClient(ctx, KubeControllerManager, "system:kube-controller-manager", append([]string{
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + cp.serviceAccountKey(),
		"--root-ca-file=" + cp.authority.file(),
		"--kube-api-qps=1000", "--kube-api-burst=1000", // with the default limits it creates 4 pods per second
		"--horizontal-pod-autoscaler-sync-period=2s",
		"--horizontal-pod-autoscaler-downscale-stabilization=5s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=1s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=1s",
	}, nodeArgs...)...)
}

func (cp *ControlPlane) startScheduler(ctx context.Context) error {
	return cp.runClient(ctx, KubeScheduler, "system:kube-scheduler")
}

// runClient starts a component that serves a health endpoint and connects to kube-apiserver as user.
func (cp *ControlPlane) runClient(ctx context.Context, name, user string, args ...string) error {
	kubeconfig, err := cp.kubeconfigFor(name, user)
	if err != nil {
		return err
	}
	ports, err := FreePorts(1)
	if err != nil {
		return err
	}
	serving := pair{
		cert: strings.TrimSuffix(kubeconfig, ".kubeconfig") + ".crt",
		key:  strings.TrimSuffix(kubeconfig, ".kubeconfig") + ".key",
	}
	return cp.run(ctx, name, cp.answers(cp.namespace, "https://127.0.0.1:"+ports[0]+"/healthz"), append([]string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port=" + ports[0],
		"--tls-cert-file=" + serving.cert, "--tls-private-key-file=" + serving.key,
		"--leader-elect=false", // each component runs once
	}, args...)...)
}
