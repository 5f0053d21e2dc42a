package node

import (
	"context"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/images/calls"
)

const lease = "mcpserver-operator.toolhive.stacklok.dev"

// TestTheScaleHoldsOnRealPods is the scenario of the bug report, with third-party servers and a client that speaks MCP. A scale that
// kubectl scale has set stays when the operator restarts, loses its leader or is upgraded. Pods only restart for a new image.
func TestTheScaleHoldsOnRealPods(t *testing.T) {
	for _, server := range []struct{ name, image, next, more, tool, arguments string }{
		{"everything", everythingImage, everythingNext, "env: [{name: PORT, value: '8080'}]", "echo", `{"message": "hello"}`},
		{"go-everything", goImage, goNext, "args: [-http, ':8080', '-stateless=false']", "test_simple_text", "{}"},
	} {
		manifest := manifestOf(server.name, server.image, server.more)
		answers := all(
			aClient(server.name, func(t *testing.T, results []calls.Result, summary *calls.Summary) {
				succeeded(t, results, summary)
				if summary.Server == "" || !slices.Contains(summary.Tools, server.tool) {
					t.Fatalf("the server reports the name %q and the tools %v", summary.Server, summary.Tools)
				}
			}, "-tool=", "-count=2"),
			aClient(server.name, succeeded, "-tool="+server.tool, "-args="+server.arguments, "-count=5"))
		testEnv.Test(t, feature("the scale of "+server.name, "restricted").
			Assess("the server starts with one pod, which answers through its Service", all(apply(manifest), scaleIs(server.name, 1), answers)).
			Assess("kubectl scale sets three pods", all(kubectl("scale", "statefulset", server.name, "--replicas=3"), scaleIs(server.name, 3), answers)).
			Assess("a restart, a lost leader and an upgrade of the operator do not change the scale", holds(server.name, 3,
				noPodRestarts(server.name, operatorRestarts(), passIsMade(server.name),
					leaderIsKilled(), passIsMade(server.name),
					operatorIsUpgraded(secondVersion, false), passIsMade(server.name),
					operatorIsUpgraded(firstVersion, false), passIsMade(server.name)))).
			Assess("a new image is rolled out to all three pods", holds(server.name, 3,
				apply(manifestOf(server.name, server.next, server.more)), imageIs(server.name, server.next), scaleIs(server.name, 3), answers)).
			Feature())
	}
}

func manifestOf(name, image, more string) string { return server(name, image, more) }

// operatorRestarts replaces the pods of the operator with kubectl rollout restart.
func operatorRestarts() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for _, args := range [][]string{{"rollout", "restart"}, {"rollout", "status", "--timeout=2m"}} {
			_, err := theCluster.Kubectl(ctx, append([]string{"-n", cluster.OperatorNamespace, args[0], args[1], "deployment/mcpserver-operator"}, args[2:]...)...)
			must(t, err)
		}
	})
}

// leaderIsKilled deletes the pod that holds the lease, without time to release the lease, and waits for a new holder.
func leaderIsKilled() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		before := leader(ctx, t)
		must(t, theCluster.Client.Delete(ctx,
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.OperatorNamespace, Name: before}}, client.GracePeriodSeconds(0)))
		eventually(ctx, t, "a leader other than "+before, func(ctx context.Context) (string, bool) {
			now := leader(ctx, t)
			return now, now != "" && now != before
		})
	})
}

// leader returns the name of the pod that holds the lease. The holder identity starts with this name.
func leader(ctx context.Context, t *testing.T) string {
	t.Helper()
	held, err := theCluster.Clients.CoordinationV1().Leases(cluster.OperatorNamespace).Get(ctx, lease, metav1.GetOptions{})
	must(t, err)
	var pods corev1.PodList
	must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(cluster.OperatorNamespace)))
	holder := ptr.Deref(held.Spec.HolderIdentity, "")
	for _, pod := range pods.Items {
		if len(holder) > len(pod.Name) && holder[:len(pod.Name)] == pod.Name {
			return pod.Name
		}
	}
	return ""
}

// operatorIsUpgraded upgrades the operator until the feature ends to a version with or without the runner, and waits for its pods.
func operatorIsUpgraded(version string, runner bool) features.Func {
	return all(afterwards(step(func(ctx context.Context, t *testing.T) { must(t, install(ctx)) })), step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, upgrade(ctx, version, runner))
		deployment := &appsv1.Deployment{}
		must(t, theCluster.Client.Get(ctx, types.NamespacedName{Namespace: cluster.OperatorNamespace, Name: "mcpserver-operator"}, deployment))
		if image := deployment.Spec.Template.Spec.Containers[0].Image; image != operatorImage+":"+version {
			t.Fatalf("the operator runs %s after the upgrade to %s", image, version)
		}
	}))
}

// passIsMade changes a label that the operator copies to the StatefulSet, and waits until a pass has written it.
func passIsMade(name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		wanted := statefulSet(ctx, t, name).Labels["pass"] + "x"
		_, err := theCluster.Kubectl(ctx, "-n", in(ctx), "patch", "mcpserver", name, "--type=merge",
			"-p", `{"spec":{"resourceOverrides":{"statefulSet":{"labels":{"pass":"`+wanted+`"}}}}}`)
		must(t, err)
		eventually(ctx, t, "a pass", func(ctx context.Context) (string, bool) {
			label := statefulSet(ctx, t, name).Labels["pass"]
			return label, label == wanted
		})
	})
}

// imageIs waits until every pod runs an image and is ready.
func imageIs(name, image string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the pods to run "+image, func(ctx context.Context) (string, bool) {
			pods := podsOf(ctx, t, name)
			for _, pod := range pods {
				if pod.Spec.Containers[0].Image != image {
					return pod.Name + " runs " + pod.Spec.Containers[0].Image, false
				}
			}
			return show(mcpServer(ctx, t, name)), len(pods) > 0 && isReady(mcpServer(ctx, t, name))
		})
	})
}

// TestAnAutoscalerScalesByTheCPUThatTheKubeletMeasures uses real CPU usage, unlike tests/autoscaling.
func TestAnAutoscalerScalesByTheCPUThatTheKubeletMeasures(t *testing.T) {
	const autoscaler = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
`
	manifest := func(burn string) string {
		return server("web", serverImage, "args: [-stateless, '-burn="+burn+"']", "resources: {requests: {cpu: 100m}}")
	}
	testEnv.Test(t, feature("an autoscaler by CPU", "restricted").
		Assess("scales up under load", all(apply(manifest("0.3"), autoscaler), scaleIs("web", 3))).
		Assess("scales down without load", all(apply(manifest("0"), autoscaler), scaleIs("web", 1))).
		Feature())
}
