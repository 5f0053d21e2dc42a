package e2e

import (
	"context"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// The exit codes of the plugin.
const (
	exitOK    = 0
	exitFound = 1
	exitError = 2
)

// runPlugin runs kubectl mcpserver as the administrator in the namespace of the test, and returns its exit code and its output.
func runPlugin(ctx context.Context, t *testing.T, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	code, stdout, stderr, err := theCluster.Plugin(ctx, "development", input, append(args, "--namespace="+in(ctx))...)
	must(t, err)
	return code, stdout, stderr
}

// plugin runs kubectl mcpserver, and fails unless it ends with a code and prints all words.
func plugin(code int, words []string, args ...string) features.Func {
	return pluginWith("", code, words, args...)
}

// pluginWith is plugin with a standard input.
func pluginWith(input string, code int, words []string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		got, stdout, stderr := runPlugin(ctx, t, input, args...)
		if got != code {
			t.Fatalf("kubectl mcpserver %s: the exit code is %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
		}
		for _, word := range words {
			if !strings.Contains(stdout+stderr, word) {
				t.Errorf("kubectl mcpserver %s does not print %q:\n%s%s", strings.Join(args, " "), word, stdout, stderr)
			}
		}
	})
}

// pluginLacks runs kubectl mcpserver, and fails if it prints one of the words.
func pluginLacks(input string, words []string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, stdout, stderr := runPlugin(ctx, t, input, args...)
		for _, word := range words {
			if strings.Contains(stdout+stderr, word) {
				t.Errorf("kubectl mcpserver %s prints %q:\n%s%s", strings.Join(args, " "), word, stdout, stderr)
			}
		}
	})
}

// runsPrinted runs the commands that the plugin has printed, each on a line that begins with kubectl.
func runsPrinted(ctx context.Context, t *testing.T, output string) {
	t.Helper()
	ran := 0
	for line := range strings.Lines(output) {
		if command, is := strings.CutPrefix(strings.TrimSpace(line), "kubectl "); is {
			_, err := theCluster.Kubectl(ctx, strings.Fields(command)...)
			must(t, err)
			ran++
		}
	}
	if ran == 0 {
		t.Fatalf("no command in:\n%s", output)
	}
}

// TestThePluginMovesTheScale verifies that the owner of the scale moves, the number does not, and the sources that still have replicas are named.
func TestThePluginMovesTheScale(t *testing.T) {
	testEnv.Test(t, feature("handover to nobody").
		Setup(all(apply(declared(3)), scaleIs(3), ownerIs("MCPServer"))).
		Assess("the number stays, and the source is named", holds(3,
			plugin(exitOK, []string{"the scale is 3", "an unknown writer", `field manager "kubectl" (Apply) has replicas`}, "handover", server, "--to=nobody"),
			operatorDoesNotOwnTheScale(), ownerIs("Unclaimed"), passesAreForced(2))).
		Assess("the source declares it again", all(apply(declared(3)), scaleIs(3), operatorOwnsTheScale())).
		Feature())

	testEnv.Test(t, feature("handover to a field manager").
		Setup(all(apply(declared(3)), scaleIs(3))).
		Assess("which then owns it alone", holds(3,
			plugin(exitOK, []string{"the scale is 3", `"argocd-controller"`}, "handover", server, "--to=argocd-controller"),
			scaleIsOwnedBy("argocd-controller/Apply"), ownerIs("argocd-controller"))).
		Assess("and applies it without a conflict", all(applyAs("argocd-controller", strings.ReplaceAll(threeReplicas, "replicas: 3", "replicas: 2")), scaleIs(2))).
		Feature())

	testEnv.Test(t, feature("handover to an autoscaler").
		Setup(all(apply(declared(3)), scaleIs(3))).
		Assess("requires one", plugin(exitError, []string{"no HorizontalPodAutoscaler targets StatefulSet \"web\""}, "handover", server, "--to=hpa")).
		Assess("and changed nothing", all(operatorOwnsTheScale(), scaleIs(3))).
		Assess("the number stays until the autoscaler changes it", holds(3, apply(autoscaler("web", onStatefulSet, 3)),
			plugin(exitOK, []string{"the scale is 3", "HorizontalPodAutoscaler/web owns the scale when it next writes it"}, "handover", server, "--to=hpa"),
			operatorDoesNotOwnTheScale())).
		Assess("which owns the scale then", all(apply(autoscaler("web", onStatefulSet, 4)), scaleIs(4), ownerIs("HorizontalPodAutoscaler/web"))).
		Feature())

	testEnv.Test(t, feature("hold and resume").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), ownerIs("Unclaimed"))).
		Assess("hold declares the present number", holds(3, plugin(exitOK, []string{"the scale is 3", "this MCPServer"}, "hold", server), operatorOwnsTheScale())).
		Assess("another writer is reverted", all(kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(3))).
		Assess("hold again changes the number", all(plugin(exitOK, []string{"the scale is 2"}, "hold", server, "--replicas=2"), scaleIs(2))).
		Assess("resume restores what was before the first hold", holds(2,
			plugin(exitOK, []string{"the scale is 2"}, "resume", server), operatorDoesNotOwnTheScale(),
			eventuallyPrints("", "mcpserver/web", ".spec.replicas"), eventuallyPrints("", "mcpserver/web", ".metadata.annotations.toolhive\\.stacklok\\.dev/held"),
			kubectl("scale", "statefulset", server, "--replicas=2"))).
		Assess("resume of a yielded scale keeps the number", all(apply(declared(1)), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), ownerIs("kubectl"),
			holds(3, plugin(exitOK, []string{"this MCPServer"}, "hold", server), operatorOwnsTheScale(),
				plugin(exitOK, []string{"the scale is 3", "spec.replicas was 1"}, "resume", server), operatorDoesNotOwnTheScale(), passesAreForced(1)))).
		Assess("resume without hold", plugin(exitError, []string{"is not held"}, "resume", server)).
		Assess("an autoscaler would fight: the command refuses, with the command that pauses it", all(apply(autoscaler("web", onStatefulSet, 2)),
			step(func(ctx context.Context, t *testing.T) {
				code, _, stderr := runPlugin(ctx, t, "", "hold", server)
				if code != exitError || !containsAll(stderr, []string{"HorizontalPodAutoscaler/web", "would fight", `"selectPolicy":"Disabled"`}) {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
				_, err := theCluster.Kubectl(ctx, "-n", in(ctx), "patch", "hpa", "web", "--type=merge", "-p",
					stderr[strings.Index(stderr, "{"):strings.LastIndex(stderr, "}")+1])
				must(t, err)
			}), plugin(exitOK, []string{"this MCPServer"}, "hold", server),
			plugin(exitOK, []string{"HorizontalPodAutoscaler/web is still paused"}, "resume", server))).
		Feature())
}
