package controlplane

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// NodeName is the name of the played node.
const NodeName = "controlplane-node"

// CPUUsageAnnotation is a pod annotation for the CPU usage that the node reports to metrics-server, as a quantity such as
// 250m. kwok's configuration reads it.
const CPUUsageAnnotation = "kwok.x-k8s.io/usage-cpu"

// startPlayedNode starts kwok and creates one node.
func (cp *ControlPlane) startPlayedNode(ctx context.Context, clients kubernetes.Interface) error {
	config, err := exec.CommandContext(ctx, filepath.Join(cp.assets, kwok), "configuration").Output()
	if err != nil {
		return fmt.Errorf("reading the configuration of kwok: %w", err)
	}
	configFile := filepath.Join(cp.Dir, "kwok.yaml")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		return fmt.Errorf("configuring kwok: %w", err)
	}
	kubeconfig, err := cp.kubeconfigFor(kwok, "system:kwok", "system:masters")
	if err != nil {
		return err
	}
	ports, err := FreePorts(1)
	if err != nil {
		return err
	}
	port, err := strconv.ParseInt(ports[0], 10, 32)
	if err != nil {
		return fmt.Errorf("parsing the port of kwok: %w", err)
	}
	if err := createNode(ctx, clients, int32(port)); err != nil {
		return err
	}
	// kwok is ready when its node is ready. From then on, pods can be scheduled.
	nodeReady := func(ctx context.Context) error {
		node, err := clients.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return isReady(node)
	}
	return cp.run(ctx, kwok, nodeReady,
		"--config="+configFile,
		"--kubeconfig="+kubeconfig,
		"--manage-all-nodes=true",
		"--cidr=10.244.0.0/16", "--node-ip=127.0.0.1",
		"--node-port="+ports[0], "--server-address=127.0.0.1:"+ports[0],
		"--tls-cert-file="+filepath.Join(cp.Dir, kwok+".crt"), "--tls-private-key-file="+filepath.Join(cp.Dir, kwok+".key"),
		"--node-lease-duration-seconds=40", // the node becomes NotReady if its lease is not renewed
	)
}

func createNode(ctx context.Context, clients kubernetes.Interface, port int32) error {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("1000"),
		corev1.ResourceMemory: resource.MustParse("4Ti"),
		corev1.ResourcePods:   resource.MustParse("100000"),
	}
	node, err := clients.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   NodeName,
			Labels: map[string]string{corev1.LabelHostname: NodeName, corev1.LabelOSStable: "linux", "type": kwok},
			Annotations: map[string]string{
				"kwok.x-k8s.io/node":                   "fake",
				"metrics.k8s.io/resource-metrics-path": "/metrics/nodes/" + NodeName + "/metrics/resource",
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating the node: %w", err)
	}
	node.Status = corev1.NodeStatus{
		Capacity: capacity, Allocatable: capacity,
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: port}},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: metav1.NewTime(time.Now()), LastTransitionTime: metav1.NewTime(time.Now()),
		}},
	}
	if _, err := clients.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("setting the capacity of the node: %w", err)
	}
	return nil
}
