package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
)

// The kubectl tests cover the commands in docs/operations.md. kubectl_replicas_test.go has the commands that write replicas.
// kubectl_statefulset_test.go has the other commands for the StatefulSet. This file has the commands that only read.

// TestDiff verifies that kubectl diff shows the changes of an apply, shows nothing after the apply, and reports conflicts.
func TestDiff(t *testing.T) {
	testEnv.Test(t, feature("kubectl diff --server-side").
		Assess("of an applied manifest shows nothing", all(applyAs("kubectl", declared(2)), scaleIs(2),
			step(func(ctx context.Context, t *testing.T) {
				out, err := theCluster.KubectlWithInput(ctx, declared(2), "diff", "--server-side", "-n", in(ctx), "-f", "-")
				must(t, err)
				if out != "" {
					t.Fatalf("unexpected difference:\n%s", out)
				}
			}))).
		Assess("of a different number shows it", fails("-  replicas: 2\n+  replicas: 3\n", declared(3), "diff", "--server-side", "-f", "-")).
		Assess("of a number that another manager changed names the manager", all(
			kubectl("scale", "mcpserver/web", "--replicas=3"), scaleIs(3),
			refused(`conflict with "kubectl" with subresource "scale"`, declared(2), "diff", "--server-side", "-f", "-"))).
		Feature())
}

// TestGetAndWait covers the output of kubectl get, and the conditions that a script can wait for.
func TestGetAndWait(t *testing.T) {
	testEnv.Test(t, feature("kubectl get and wait").
		Assess("wait returns when the MCPServer is Ready", all(apply(declared(2)),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), printed([]string{"2"},
				"get", "statefulset", server, "-o", "jsonpath={.status.readyReplicas}"))).
		Assess("get prints the owner of the scale", header("NAME READY REPLICAS SCALE OWNER URL AGE", "get", "mcp")).
		Assess("get -o wide adds the phase and the reason", all(
			header("NAME READY REPLICAS SCALE OWNER URL AGE PHASE REASON", "get", "mcp", "-o", "wide"),
			printed([]string{"Ready", "PodsReady"}, "get", "mcp", "-o", "wide"))).
		Assess("get --show-managed-fields shows the manager of the scale", printed([]string{"mcpserver-operator"}, "get", "statefulset", server,
			"--show-managed-fields", "-o", `jsonpath={.metadata.managedFields[?(@.fieldsV1.f:spec.f:replicas)].manager}`)).
		Assess("wait returns when the scale has the owner", all(
			kubectl("scale", "statefulset", server, "--replicas=3"),
			kubectl("wait", "--for=jsonpath={.status.scale.owner}=kubectl", "--timeout=90s", "mcpserver/web"), scaleIs(3))).
		Assess("wait fails when the owner does not appear", refused("timed out waiting for the condition on mcpservers/web", "",
			"wait", "--for=jsonpath={.status.scale.owner}=MCPServer", "--timeout=1s", "mcpserver/web")).
		Assess("explain lists the possible owners", printed([]string{"HorizontalPodAutoscaler/NAME", "ScaledObject/NAME", "Unclaimed"},
			"explain", "mcpserver.status.scale")).
		Feature())
}

// TestWaitAfterAnEdit verifies that a script can wait immediately after an edit. The condition has an observedGeneration, and kubectl
// wait ignores a condition with an older generation.
func TestWaitAfterAnEdit(t *testing.T) {
	edit := func(image string) features.Func {
		return kubectl("patch", "mcpserver", server, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"image":%q}}`, image))
	}
	test := feature("kubectl wait --for=condition=Ready after an edit").
		Assess("Ready before", all(apply(declared(3)), scaleIs(3))).
		Assess("does not return before the operator has seen the edit", all(
			operatorStops(), edit("registry.example/server:2"), eventuallyPrints("True", "mcpserver/web", isReadyPath),
			fails("timed out waiting for the condition on mcpservers/web", "", "wait", "--for=condition=Ready", "--timeout=1s", "mcpserver/web"),
			operatorStarts(), kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), everyPodRuns(3, "registry.example/server:2")))
	for _, version := range []string{"3", "4", "5"} {
		image := "registry.example/server:" + version
		test = test.Assess("returns when every pod runs version "+version, all(
			edit(image), kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), everyPodRuns(3, image)))
	}
	testEnv.Test(t, test.Feature())
}

// isReadyPath is the path of the status of the Ready condition.
const isReadyPath = `.status.conditions[?(@.type=="Ready")].status`

// everyPodRuns fails unless exactly n pods exist, all are ready, and all run the image.
func everyPodRuns(n int, image string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		var pods corev1.PodList
		must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx))))
		var wrong []string
		for i := range pods.Items {
			pod := &pods.Items[i]
			if pod.Spec.Containers[0].Image != image || !isPodReady(pod) {
				wrong = append(wrong, fmt.Sprintf("%s has %s, %v", pod.Name, pod.Spec.Containers[0].Image, pod.Status.Conditions))
			}
		}
		if len(pods.Items) != n || len(wrong) > 0 {
			t.Fatalf("found %d pods, want %d ready pods with image %s; wrong: %q", len(pods.Items), n, image, wrong)
		}
	})
}

func isPodReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// header fails unless the first line of kubectl's output has exactly the given words.
func header(want string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		out, err := theCluster.Kubectl(ctx, append([]string{"-n", in(ctx)}, args...)...)
		must(t, err)
		first, _, _ := strings.Cut(out, "\n")
		if got := strings.Join(strings.Fields(first), " "); got != want {
			t.Errorf("kubectl %s prints the columns %q, want %q", strings.Join(args, " "), got, want)
		}
	})
}

// kubectlOf runs kubectl in the namespace of the test, with a manifest as standard input.
func kubectlOf(manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, append([]string{"-n", in(ctx)}, args...)...)
		must(t, err)
	})
}

// fails fails unless kubectl fails with the given text. The manifest, if not empty, is the standard input.
func fails(text, manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		out, err := theCluster.KubectlWithInput(ctx, manifest, append([]string{"-n", in(ctx)}, args...)...)
		if err == nil || !strings.Contains(out, text) {
			t.Fatalf("kubectl %s must fail with %q, but printed (%v):\n%s", strings.Join(args, " "), text, err, out)
		}
	})
}

// refused is fails for a text that docs/operations.md must explain.
func refused(text, manifest string, args ...string) features.Func {
	return all(fails(text, manifest, args...), step(func(_ context.Context, t *testing.T) {
		t.Helper()
		docs, err := os.ReadFile("../../docs/operations.md")
		must(t, err)
		if !strings.Contains(string(docs), text) {
			t.Errorf("docs/operations.md does not explain %q", text)
		}
	}))
}

// scaleIsOwnedBy waits until exactly these field managers own spec.replicas of the StatefulSet. The format is NAME/OPERATION or
// NAME/OPERATION/SUBRESOURCE.
func scaleIsOwnedBy(managers ...string) features.Func {
	return replicasAreOwnedBy(func(ctx context.Context, t *testing.T) client.Object { return statefulSet(ctx, t) }, managers)
}

// declarationIsOwnedBy waits until exactly these field managers own spec.replicas of the MCPServer.
func declarationIsOwnedBy(managers ...string) features.Func {
	return replicasAreOwnedBy(func(ctx context.Context, t *testing.T) client.Object { return mcpServer(ctx, t) }, managers)
}

func replicasAreOwnedBy(object func(context.Context, *testing.T) client.Object, managers []string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("spec.replicas owned by %q", managers), func(ctx context.Context) (string, bool) {
			owners, err := cluster.OwnersOfReplicas(object(ctx, t))
			must(t, err)
			return fmt.Sprintf("%q", owners), slices.Equal(owners, managers)
		})
	})
}
