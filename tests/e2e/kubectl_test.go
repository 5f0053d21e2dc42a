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

// What kubectl does to an MCPServer and to its StatefulSet, command by command, as docs/operations.md has it. What writes
// replicas is in kubectl_replicas_test.go, what does something else to the StatefulSet in kubectl_statefulset_test.go,
// and what only looks is here.

// TestDiff: kubectl diff shows what an apply would change, nothing after one, and whose field it would meet.
func TestDiff(t *testing.T) {
	testEnv.Test(t, feature("kubectl diff --server-side").
		Assess("of what was applied shows nothing", all(applyAs("kubectl", declared(2)), scaleIs(2),
			step(func(ctx context.Context, t *testing.T) {
				out, err := theCluster.KubectlWithInput(ctx, declared(2), "diff", "--server-side", "-n", in(ctx), "-f", "-")
				must(t, err)
				if out != "" {
					t.Fatalf("there is a difference:\n%s", out)
				}
			}))).
		Assess("of another number shows it", fails("-  replicas: 2\n+  replicas: 3\n", declared(3), "diff", "--server-side", "-f", "-")).
		Assess("of a number that somebody else has changed says who", all(
			kubectl("scale", "mcpserver/web", "--replicas=3"), scaleIs(3),
			refused(`conflict with "kubectl" with subresource "scale"`, declared(2), "diff", "--server-side", "-f", "-"))).
		Feature())
}

// TestGetAndWait: what kubectl prints, and what a script can wait for.
func TestGetAndWait(t *testing.T) {
	testEnv.Test(t, feature("kubectl get and wait").
		Assess("waits for Ready", all(apply(declared(2)),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), printed([]string{"2"},
				"get", "statefulset", server, "-o", "jsonpath={.status.readyReplicas}"))).
		Assess("prints whose the scale is", header("NAME READY REPLICAS SCALE OWNER URL AGE", "get", "mcp")).
		Assess("-o wide adds the phase and the reason", all(
			header("NAME READY REPLICAS SCALE OWNER URL AGE PHASE REASON", "get", "mcp", "-o", "wide"),
			printed([]string{"Ready", "PodsReady"}, "get", "mcp", "-o", "wide"))).
		Assess("--show-managed-fields says who owns the scale", printed([]string{"mcpserver-operator"}, "get", "statefulset", server,
			"--show-managed-fields", "-o", `jsonpath={.metadata.managedFields[?(@.fieldsV1.f:spec.f:replicas)].manager}`)).
		Assess("waits for an owner of the scale", all(
			kubectl("scale", "statefulset", server, "--replicas=3"),
			kubectl("wait", "--for=jsonpath={.status.scale.owner}=kubectl", "--timeout=90s", "mcpserver/web"), scaleIs(3))).
		Assess("and fails when it does not come", refused("timed out waiting for the condition on mcpservers/web", "",
			"wait", "--for=jsonpath={.status.scale.owner}=MCPServer", "--timeout=1s", "mcpserver/web")).
		Assess("explain tells what the owner can be", printed([]string{"HorizontalPodAutoscaler/NAME", "ScaledObject/NAME", "Unclaimed"},
			"explain", "mcpserver.status.scale")).
		Feature())
}

// TestWaitAfterAnEdit: a script may wait at once. The condition has the generation that it was seen in, and kubectl wait
// takes no condition of an older one.
func TestWaitAfterAnEdit(t *testing.T) {
	edit := func(image string) features.Func {
		return kubectl("patch", "mcpserver", server, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"image":%q}}`, image))
	}
	test := feature("kubectl wait --for=condition=Ready after an edit").
		Assess("Ready before", all(apply(declared(3)), scaleIs(3))).
		Assess("does not return while the operator has not seen the edit", all(
			withoutOperator(all(edit("registry.example/server:2"), eventuallyPrints("True", "mcpserver/web", isReadyPath),
				fails("timed out waiting for the condition on mcpservers/web", "", "wait", "--for=condition=Ready", "--timeout=1s", "mcpserver/web"))),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), everyPodRuns(3, "registry.example/server:2")))
	for _, version := range []string{"3", "4", "5"} {
		image := "registry.example/server:" + version
		test = test.Assess("returns when every pod runs version "+version, all(
			edit(image), kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), everyPodRuns(3, image)))
	}
	testEnv.Test(t, test.Feature())
}

// isReadyPath is where the status of the condition Ready is.
const isReadyPath = `.status.conditions[?(@.type=="Ready")].status`

// everyPodRuns fails unless there are, now, exactly n pods, all ready, and all of an image.
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
			t.Fatalf("there are %d pods, wanted %d ready ones of %s; %q", len(pods.Items), n, image, wrong)
		}
	})
}

func isPodReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// header fails unless the first line that kubectl prints has exactly the given words.
func header(want string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		out, err := theCluster.Kubectl(ctx, append([]string{"-n", in(ctx)}, args...)...)
		must(t, err)
		first, _, _ := strings.Cut(out, "\n")
		if got := strings.Join(strings.Fields(first), " "); got != want {
			t.Errorf("kubectl %s prints the columns %q, wanted %q", strings.Join(args, " "), got, want)
		}
	})
}

// kubectlOf runs kubectl in the namespace of the test with a manifest as its input.
func kubectlOf(manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, append([]string{"-n", in(ctx)}, args...)...)
		must(t, err)
	})
}

// fails fails unless kubectl, with a manifest or nothing as its input, does, with a text.
func fails(text, manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		out, err := theCluster.KubectlWithInput(ctx, manifest, append([]string{"-n", in(ctx)}, args...)...)
		if err == nil || !strings.Contains(out, text) {
			t.Fatalf("kubectl %s has to fail with %q, but printed (%v):\n%s", strings.Join(args, " "), text, err, out)
		}
	})
}

// refused fails unless kubectl fails with a text that its users find in docs/operations.md.
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

// scaleIsOwnedBy waits until spec.replicas of the StatefulSet is owned by exactly these field managers, each as
// NAME/OPERATION or NAME/OPERATION/SUBRESOURCE.
func scaleIsOwnedBy(managers ...string) features.Func {
	return replicasAreOwnedBy(func(ctx context.Context, t *testing.T) client.Object { return statefulSet(ctx, t) }, managers)
}

// declarationIsOwnedBy waits until spec.replicas of the MCPServer is owned by exactly these field managers.
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
