package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"mcpserver-operator/tests/controlplane/namespace"
)

// mostNodes is the maximum number of real nodes: a single link connects two.
const mostNodes = 2

// realNode is a node that runs pods in separate namespaces. The control plane runs in the namespaces of the first node.
type realNode struct {
	number    int
	name      string
	dir       string
	cgroup    string // the name of its cgroup in each hierarchy
	namespace *namespace.Namespace
}

// makeNodes creates the namespaces and the network of the real nodes, and removes the leftovers of earlier runs.
func (cp *ControlPlane) makeNodes(count int) error {
	if err := canRunNodes(cp.assets); err != nil {
		return err
	}
	if err := cp.removeLeftovers(); err != nil {
		return err
	}
	for number := 1; number <= max(count, 1); number++ {
		node := &realNode{
			number: number, name: nodeName(number), dir: filepath.Join(cp.Dir, nodeName(number)),
			cgroup: cgroupName(os.Getpid(), filepath.Base(cp.Dir), number),
		}
		if err := os.MkdirAll(node.dir, 0o755); err != nil {
			return fmt.Errorf("making the folder of %s: %w", node.name, err)
		}
		var err error
		if node.namespace, err = namespace.New(filepath.Join(cp.assets, "nodeinit")); err != nil {
			return err
		}
		cp.nodes = append(cp.nodes, node)
		if err := makeCgroups(node.cgroup); err != nil {
			return err
		}
	}
	cp.namespace = cp.nodes[0].namespace
	return connect(cp.nodes)
}

// realNodeArgs returns the address of kube-apiserver and its additional arguments for real nodes.
func (cp *ControlPlane) realNodeArgs() (address string, args []string, err error) {
	client, err := cp.authority.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return "", nil, err
	}
	return nodeAddress(1), []string{
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + serviceRange,
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + client.cert, "--kubelet-client-key=" + client.key,
	}, nil
}

// startRealNodes starts the node components. It returns when each node runs pods and DNS answers.
func (cp *ControlPlane) startRealNodes(ctx context.Context, clients kubernetes.Interface) error {
	if err := cp.startDNS(ctx); err != nil {
		return err
	}
	pause, err := cp.writePauseImage()
	if err != nil {
		return err
	}
	for _, node := range cp.nodes {
		if err := cp.startContainerd(ctx, node, pause); err != nil {
			return err
		}
		if err := cp.startKubelet(ctx, node, clients); err != nil {
			return err
		}
		if err := cp.startKubeProxy(ctx, node); err != nil {
			return err
		}
	}
	for _, node := range cp.nodes {
		if err := runsPods(ctx, clients, node.name); err != nil {
			return err
		}
	}
	return nil
}

// kubeletConfiguration lets a kubelet share a machine: without systemd, and in cgroups that it does not own exclusively. Its
// arguments are the CA file, the cgroup, the address of DNS, and the folder.
const kubeletConfiguration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]s}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://` + containerdSocket + `
cgroupDriver: cgroupfs
cgroupRoot: /%[2]s
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
enforceNodeAllocatable: []
evictionHard: {}
imageGCHighThresholdPercent: 100
featureGates: {KubeletInUserNamespace: true} # it may not lower oom_score_adj
clusterDomain: cluster.local
clusterDNS: [%[3]s]
resolvConf: ""
podLogsDir: %[4]s/logs
volumePluginDir: %[4]s/volume-plugins
maxPods: 250
registryPullQPS: 0
eventRecordQPS: 0
serializeImagePulls: false
configMapAndSecretChangeDetectionStrategy: Watch
nodeLeaseDurationSeconds: 8 # renewed every 2 s: see the arguments of kube-controller-manager
`

func (cp *ControlPlane) startKubelet(ctx context.Context, node *realNode, clients kubernetes.Interface) error {
	name := Kubelet + "-" + node.name
	kubeconfig, err := cp.kubeconfigFor(name, "system:node:"+node.name, "system:nodes")
	if err != nil {
		return err
	}
	root := filepath.Join(node.dir, "kubelet")
	if err := os.MkdirAll(root, 0o750); err != nil {
		return fmt.Errorf("making the folder of the kubelet: %w", err)
	}
	config := filepath.Join(node.dir, "kubelet.yaml")
	content := fmt.Appendf(nil, kubeletConfiguration, cp.authority.file(), node.cgroup, nodeAddress(1), node.dir)
	if err := os.WriteFile(config, content, 0o600); err != nil {
		return fmt.Errorf("configuring the kubelet: %w", err)
	}
	ready := func(ctx context.Context) error {
		live, err := clients.CoreV1().Nodes().Get(ctx, node.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return isReady(live)
	}
	return cp.runIn(ctx, node.namespace, name, Kubelet, ready,
		"--config="+config, "--kubeconfig="+kubeconfig, "--root-dir="+root,
		"--hostname-override="+node.name, "--node-ip="+nodeAddress(node.number)+","+nodeAddress6(node.number),
		"--node-labels=topology.kubernetes.io/zone="+node.name)
}

// kubeProxyConfiguration has two arguments: the kubeconfig and the name of the node. It keeps the kernel's conntrack limits.
const kubeProxyConfiguration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %[1]s}
hostnameOverride: %[2]s
mode: nftables
clusterCIDR: ` + podRange + `
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms}
`

func (cp *ControlPlane) startKubeProxy(ctx context.Context, node *realNode) error {
	name := kubeProxy + "-" + node.name
	kubeconfig, err := cp.kubeconfigFor(name, "system:kube-proxy")
	if err != nil {
		return err
	}
	config := filepath.Join(node.dir, "kube-proxy.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, kubeProxyConfiguration, kubeconfig, node.name), 0o600); err != nil {
		return fmt.Errorf("configuring kube-proxy: %w", err)
	}
	return cp.runIn(ctx, node.namespace, name, kubeProxy, cp.answers(node.namespace, "http://127.0.0.1:10256/healthz"),
		"--config="+config)
}

// isReady returns nil if a node can run pods, and otherwise an error with the reason.
func isReady(node *corev1.Node) error {
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("node %s has the taint %s", node.Name, node.Spec.Taints[0].Key)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not ready", node.Name)
}

// runsPods runs a pod on a node and removes the pod.
func runsPods(ctx context.Context, clients kubernetes.Interface, node string) error {
	name, err := runPod(ctx, clients, node)
	if err != nil {
		return err
	}
	if err := clients.CoreV1().Pods(metav1.NamespaceSystem).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("removing the first pod of %s: %w", node, err)
	}
	return nil
}

// runPod starts a pod on a node, in kube-system. It returns the name of the pod when the pod runs.
func runPod(ctx context.Context, clients kubernetes.Interface, node string) (name string, err error) {
	pods := clients.CoreV1().Pods(metav1.NamespaceSystem)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "preflight-" + node},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			Containers:                    []corev1.Container{{Name: "pause", Image: pauseImage, ImagePullPolicy: corev1.PullNever}},
			TerminationGracePeriodSeconds: new(int64),
		},
	}
	var last string
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, startTimeout, true, func(ctx context.Context) (bool, error) {
		live, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			live, err = pods.Create(ctx, pod, metav1.CreateOptions{}) // fails until its ServiceAccount exists
		}
		if last = fmt.Sprint(err); err != nil {
			return false, nil //nolint:nilerr // the call is retried; the last error is reported at the deadline
		}
		last = string(live.Status.Phase)
		for _, status := range live.Status.ContainerStatuses {
			if waiting := status.State.Waiting; waiting != nil {
				last = strings.TrimSpace(waiting.Reason + " " + waiting.Message)
			}
		}
		return live.DeletionTimestamp == nil && live.Status.Phase == corev1.PodRunning, nil
	})
	if err != nil {
		return "", fmt.Errorf("running a pod on %s: %w; last: %s", node, err, last)
	}
	return pod.Name, nil
}

// removeNodes ends every process on the real nodes, including containers, and removes the files and cgroups of the nodes.
func (cp *ControlPlane) removeNodes() error {
	if len(cp.nodes) == 0 {
		return nil
	}
	errs := []error{cp.entrance.close()}
	for _, node := range cp.nodes {
		errs = append(errs, node.namespace.Close(), removeCgroups(node.cgroup),
			// These folders contain the files of containers. The logs stay.
			os.RemoveAll(filepath.Join(node.dir, "containerd")), os.RemoveAll(filepath.Join(node.dir, "kubelet")))
	}
	cp.nodes, cp.namespace, cp.entrance = nil, nil, nil
	return errors.Join(append(errs, cp.disown())...)
}
