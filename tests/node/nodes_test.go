package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/controlplane"
)

// TestADrainLeavesOnePodServing drains the node that runs both pods. Without the PodDisruptionBudget, both pods would stop at once.
func TestADrainLeavesOnePodServing(t *testing.T) {
	testEnv.Test(t, feature("kubectl drain", "restricted").
		Assess("both pods are on one node", all(
			schedulableAfterwards(), clusterKubectl("cordon", "node-1"),
			apply(server("web", serverImage, "args: [-stateless, -ready-after=2s]", "replicas: 2")), scaleIs("web", 2),
			clusterKubectl("uncordon", "node-1"), podsAreOn("web", "node-2"))).
		Assess("the pods move one after the other, and the server keeps answering", keepsAnswering("web", all(
			clusterKubectl("drain", "node-2", "--pod-selector=app.kubernetes.io/instance=web", "--timeout=120s"),
			scaleIs("web", 2), podsAreOn("web", "node-1")))).
		Feature())
}

// TestALostNodeIsNamed verifies that the status names the lost node, the pod and the remedy, and that the server becomes ready again
// when the node returns.
func TestALostNodeIsNamed(t *testing.T) {
	const kubelet = controlplane.Kubelet + "-node-2"
	testEnv.Test(t, feature("a lost node", "restricted").
		Assess("a pod on the node", all(
			apply(server("web", serverImage, "args: [-stateless]", "podTemplateSpec: {spec: {nodeSelector: {kubernetes.io/hostname: node-2}}}")), scaleIs("web", 1))).
		Assess("is reported", all(
			afterwards(componentsRun()), step(func(_ context.Context, t *testing.T) { must(t, theCluster.Kill(kubelet)) }),
			readySays("web", metav1.ConditionFalse, "NodeLost", "pod web-0", `node "node-2" does not report`, "kubectl delete node node-2"))).
		Assess("is no longer reported when it returns", all(componentsRun(), scaleIs("web", 1))).
		Feature())
}

// componentsRun starts the components that have ended.
func componentsRun() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, theCluster.StartEnded(ctx))
	})
}

// schedulableAfterwards makes both nodes schedulable when the feature ends.
func schedulableAfterwards() features.Func {
	return afterwards(clusterKubectl("uncordon", "node-1", "node-2"))
}

func podsAreOn(name, node string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for _, pod := range podsOf(ctx, t, name) {
			if pod.Spec.NodeName != node {
				t.Fatalf("pod %s is on node %s, want node %s", pod.Name, pod.Spec.NodeName, node)
			}
		}
	})
}

// longestSilence limits the time without a successful call while pods are replaced. A stopping pod refuses connections until kube-proxy
// has updated its rules.
const longestSilence = 3 * time.Second

// keepsAnswering runs a step while a client opens a new session for each call. It fails if no call succeeds for longer than
// longestSilence.
func keepsAnswering(name string, do features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		pod := startClient(ctx, t, name, "-tool=whoami", "-fresh", "-count=0", "-for=5m", "-every=100ms", "-timeout=1s")
		eventually(ctx, t, "the first answer", func(ctx context.Context) (string, bool) {
			answered, _ := answers(ctx, t, pod)
			return fmt.Sprintf("%d answers", len(answered)), len(answered) > 0
		})
		ctx = do(ctx, t, config)
		before, _ := answers(ctx, t, pod)
		eventually(ctx, t, "more answers", func(ctx context.Context) (string, bool) {
			answered, _ := answers(ctx, t, pod)
			return fmt.Sprintf("%d answers", len(answered)), len(answered) > len(before)+5
		})
		answered, failed := answers(ctx, t, pod)
		for i := 1; i < len(answered); i++ {
			if silence := answered[i].Sub(answered[i-1]); silence > longestSilence {
				t.Errorf("after %s, no call succeeded for %s", answered[i-1].Format(time.TimeOnly), silence)
			}
		}
		t.Logf("%d calls succeeded, %d failed", len(answered), failed)
		must(t, theCluster.Client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: in(ctx), Name: pod}}, client.GracePeriodSeconds(1)))
		return ctx
	}
}

// answers returns the start times of a client's successful calls, and the number of failed calls.
func answers(ctx context.Context, t *testing.T, pod string) (answered []time.Time, failed int) {
	t.Helper()
	live := &corev1.Pod{}
	must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: pod}, live))
	if live.Status.Phase == corev1.PodPending {
		return nil, 0
	}
	results, _ := printedBy(ctx, t, pod)
	for _, result := range results {
		if result.OK {
			answered = append(answered, result.Start)
		} else {
			failed++
		}
	}
	return answered, failed
}
