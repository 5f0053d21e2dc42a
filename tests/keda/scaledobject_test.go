package keda

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// server is the name of the MCPServer, the StatefulSet and the ScaledObject.
const server = "web"

// scaledObject scales to one pod for each pod with the label app=job. The argument is the minimum. KEDA looks every second. The HorizontalPodAutoscaler
// does not wait before it scales down.
const scaledObject = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  pollingInterval: 1
  cooldownPeriod: 5
  minReplicaCount: %d
  maxReplicaCount: 4
  advanced:
    restoreToOriginalReplicaCount: true
    horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 0}}}
  triggers:
  - {type: kubernetes-workload, metadata: {podSelector: app=job, value: "1"}}
`

// TestKEDAScales verifies that only KEDA changes the scale: up and down, to 0 and back, and back to the original number when the ScaledObject is
// deleted. The original number is 2. KEDA writes the numbers from and to 0, and the original number. Its HorizontalPodAutoscaler writes the others.
func TestKEDAScales(t *testing.T) {
	theCluster.NeedAuditLog(t)
	const byOperator = "mcpserver-operator/Apply"
	for name, test := range map[string]struct {
		spec    string // of the MCPServer
		minimum int
		steps   func(t *testing.T, namespace string)
		// before and after are the owners of the scale in managedFields at the beginning and at the end. Kubernetes records none for a write through the
		// subresource scale if there was none, and removes the owner with a write of 0.
		before, after string
		// restored is the owner in the status after the ScaledObject is deleted.
		restored string
	}{
		"a delegated scale, to 0": {"", 0, toZeroAndBack, "", "", "Unclaimed"},
		"a declared scale, to 0":  {", replicas: 2", 0, toZeroAndBack, byOperator, "", "Unclaimed"},
		"a declared scale, not to 0": {", replicas: 2", 1, func(t *testing.T, namespace string) {
			isReadyAt(t, namespace, 1, "ScaledObject/web")
			jobsBecome(t, namespace, 0, 4)
			isReadyAt(t, namespace, 4, "ScaledObject/web")
		}, byOperator, "keda/Update/scale", "keda"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := theCluster.NewNamespace(t, "keda-")
			apply(t, namespace, fmt.Sprintf("apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: web}\n"+
				"spec: {image: \"registry.example/server:1\", transport: streamable-http%s}\n", test.spec))
			statefulSetExists(t, namespace)
			if test.spec == "" {
				kubectl(t, namespace, "scale", "statefulset", server, "--replicas=2")
			}
			isReadyAt(t, namespace, 2, "")
			recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: server})
			must(t, err)
			mark, err := theCluster.AuditMark()
			must(t, err)

			apply(t, namespace, fmt.Sprintf(scaledObject, test.minimum))
			test.steps(t, namespace)
			pause(t, namespace)
			kubectl(t, namespace, "delete", "scaledobject", server)
			isReadyAt(t, namespace, 2, test.restored)

			_, err = recorder.Stop(t.Context())
			must(t, err)
			managers := recorder.Owners()
			if managers[0] != test.before || managers[len(managers)-1] != test.after || slices.Contains(managers[1:], byOperator) {
				t.Errorf("the scale was owned by %q, want %q first and %q last", managers, test.before, test.after)
			}
			onlyKEDAWroteTheScale(t, mark, namespace)
		})
	}
}

// toZeroAndBack: the status of the HorizontalPodAutoscaler tells who set a number without an owner, as soon as it has scaled once. It may scale
// while KEDA scales to 0 for the first time.
func toZeroAndBack(t *testing.T, namespace string) {
	t.Helper()
	isIdle(t, namespace, "Unclaimed", "ScaledObject/web")
	jobsBecome(t, namespace, 0, 3)
	isReadyAt(t, namespace, 3, "ScaledObject/web")
	jobsBecome(t, namespace, 3, 0)
	isIdle(t, namespace, "ScaledObject/web")
}

// pause makes KEDA delete its HorizontalPodAutoscaler, which could otherwise scale once more after KEDA has restored the original number.
func pause(t *testing.T, namespace string) {
	t.Helper()
	kubectl(t, namespace, "annotate", "scaledobject", server, "autoscaling.keda.sh/paused=true")
	eventually(t, "no HorizontalPodAutoscaler", func() (string, bool) {
		hpas := autoscalers(t, namespace)
		return fmt.Sprint(hpas), len(hpas) == 0
	})
}

func autoscalers(t *testing.T, namespace string) []autoscalingv2.HorizontalPodAutoscaler {
	t.Helper()
	hpas := &autoscalingv2.HorizontalPodAutoscalerList{}
	must(t, theCluster.Client.List(t.Context(), hpas, client.InNamespace(namespace)))
	return hpas.Items
}

func kubectl(t *testing.T, namespace string, args ...string) {
	t.Helper()
	_, err := theCluster.Kubectl(t.Context(), append([]string{"-n", namespace}, args...)...)
	must(t, err)
}

func apply(t *testing.T, namespace, manifest string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), manifest, "-n", namespace, "apply", "--server-side", "-f", "-")
	must(t, err)
}

// jobsBecome creates or deletes pods with the label app=job.
func jobsBecome(t *testing.T, namespace string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		kubectl(t, namespace, "run", fmt.Sprintf("job-%d", i), "--image=registry.example/job:1", "--labels=app=job")
	}
	for i := to; i < from; i++ {
		kubectl(t, namespace, "delete", "pod", fmt.Sprintf("job-%d", i), "--now")
	}
}

func statefulSetExists(t *testing.T, namespace string) {
	t.Helper()
	eventually(t, "the StatefulSet", func() (string, bool) {
		err := theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: server}, &appsv1.StatefulSet{})
		return fmt.Sprint(err), err == nil
	})
}

func mcpServer(t *testing.T, namespace string) *v1beta1.MCPServer {
	t.Helper()
	mcp := &v1beta1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: server}, mcp))
	return mcp
}

// isReadyAt waits until n pods of n are ready, and the status names the owner of the scale, if one is given.
func isReadyAt(t *testing.T, namespace string, n int, owner string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d ready pods, owner %q", n, owner), func() (string, bool) {
		status := mcpServer(t, namespace).Status
		return fmt.Sprintf("%s, %+v, %+v", status.Ready, status.Scale, autoscalers(t, namespace)), status.Ready == fmt.Sprintf("%d/%d", n, n) &&
			status.Scale != nil && (owner == "" || status.Scale.Owner == owner)
	})
}

// isIdle waits until the MCPServer has no pod, and says that KEDA starts it again. The status names one of the owners.
func isIdle(t *testing.T, namespace string, owners ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("an idle server, owner %q", owners), func() (string, bool) {
		status := mcpServer(t, namespace).Status
		ready := apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
		return fmt.Sprintf("%s, %+v, %+v", status.Ready, status.Scale, ready), status.Ready == "0/0" && status.Scale != nil && slices.Contains(owners, status.Scale.Owner) &&
			status.Phase == v1beta1.PhaseReady && ready != nil && ready.Reason == "Idle" && strings.HasPrefix(ready.Message, "scaled to 0 by ScaledObject/web,")
	})
}

// onlyKEDAWroteTheScale fails if, since a mark in the audit log, others than the processes of KEDA and its HorizontalPodAutoscaler have written the
// scale, or the operator has written the StatefulSet.
func onlyKEDAWroteTheScale(t *testing.T, mark int64, namespace string) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, "")
	must(t, err)
	writers := map[string]bool{}
	for _, request := range requests {
		if !request.IsWrite() || request.Namespace != namespace || request.Resource != "statefulsets" || request.Code != http.StatusOK {
			continue
		}
		switch {
		case request.Subresource == "scale":
			program, _, _ := strings.Cut(request.UserAgent, "/")
			writers[request.User+" as "+program] = true
		case request.User == cluster.OperatorUser:
			t.Errorf("the operator wrote: %s", request)
		}
	}
	want := map[string]bool{user + " as keda": true, "system:serviceaccount:kube-system:horizontal-pod-autoscaler as kube-controller-manager": true}
	if !maps.Equal(writers, want) {
		t.Errorf("these clients wrote the scale: %v, want %v", writers, want)
	}
}
