package node

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestTwoVersionsOfTheRunnerServeTheSameSessions stops a rollout halfway after an upgrade of the operator: one pod has the runner of the new version, and the
// other that of the former. Each request of a session may reach either, so that sessions cross between them.
func TestTwoVersionsOfTheRunnerServeTheSameSessions(t *testing.T) {
	const sessions = 10
	manifest := func(image string) string {
		return stdioServerOf("tools", image, "[/everything-server]", "replicas: 2", "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}")
	}
	testEnv.Test(t, feature("two versions of the runner", "restricted").
		Setup(operatorHasRunner()).
		Assess("sessions cross between them", step(func(ctx context.Context, t *testing.T) {
			all(apply(manifest(goImage)), scaleIs("tools", 2))(ctx, t, nil)
			call := func() string {
				return startClient(ctx, t, "tools", withSessions, "-sessions="+fmt.Sprint(sessions), "-keep", "-unpooled", "-tool=test_simple_text",
					"-count=0", "-every=300ms", "-for=10m")
			}
			older := call()
			allCall(ctx, t, older, sessions)
			all(operatorIsUpgraded(secondVersion, true), apply(manifest(goNext)), runnerIs("tools-1", secondVersion), scaleIs("tools", 2),
				runnerIs("tools-0", firstVersion))(ctx, t, nil)
			newer := call()
			for _, client := range []string{older, newer} {
				allCall(ctx, t, client, sessions)
				results, _ := printedBy(ctx, t, client)
				for _, result := range results {
					if !result.OK || (result.Connected && result.Call > 1) {
						t.Errorf("a call failed, or its session was opened again: %+v", result)
					}
				}
				endClient(ctx, t, client)
			}
			for _, pod := range []string{"tools-0", "tools-1"} {
				t.Logf("%s has forwarded %d requests of sessions to the other version", pod, forwardedBy(ctx, t, pod))
			}
			if forwardedBy(ctx, t, "tools-1") == 0 {
				t.Error("no request has crossed from the new version to the former")
			}
		})).
		Feature())
}

// runnerIs waits until a pod is ready and its runner has a version.
func runnerIs(pod, version string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, pod+" to have the runner "+version, func(ctx context.Context) (string, bool) {
			live := get(ctx, t, pod, &corev1.Pod{})
			if len(live.Spec.InitContainers) == 0 {
				return "the pod is not there", false
			}
			image := live.Spec.InitContainers[0].Image
			return image + ", " + string(live.Status.Phase), image == operatorImage+":"+version && podIsReady(live)
		})
	})
}

// forwardedBy returns how many requests of sessions a pod has forwarded.
func forwardedBy(ctx context.Context, t *testing.T, pod string) int {
	t.Helper()
	forwarded, _ := metricOf(ctx, t, pod, `mcp_runner_forwarded_total{reason="session"}`) // absent until the first
	return forwarded
}
