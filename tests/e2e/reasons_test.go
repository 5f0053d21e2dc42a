package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestPodsThatCannotBeCreatedAreNamed verifies that the status contains the error of the API server, which only events report. See
// tests/node for the reasons that a kubelet reports.
func TestPodsThatCannotBeCreatedAreNamed(t *testing.T) {
	const absentAccount = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", serviceAccount: absent}
`
	testEnv.Test(t, feature("an exhausted quota").
		Assess("is reported", all(apply(quota(1)), apply(declared(2)),
			unready("PodNotCreated: 1 pods exist, 2 are desired", "pod web-", "exceeded quota: pods"))).
		Assess("the status is not written again", writesNothing(passesAreForced(5))).
		Assess("is no longer reported when the quota is deleted", all(kubectl("delete", "resourcequota", "pods"), scaleIs(2))).
		Feature())
	tryAtOnce := func(at string) features.Func {
		return kubectl("annotate", "statefulset", server, "--overwrite", "tried-at="+at)
	}
	// Each failure doubles the delay before the next attempt, up to 16 minutes. An attempt that is already scheduled still happens. It is
	// usually more than a few seconds away.
	const failures = 20
	var fail []features.Func
	for i := range failures {
		fail = append(fail, tryAtOnce(fmt.Sprint(i)))
	}
	testEnv.Test(t, feature("the StatefulSet controller, which delays its next attempt").
		Assess("the status contains a command after many failures", all(apply(quota(1)), apply(declared(2)),
			eventuallyPrints("1", "statefulset/web", ".status.readyReplicas"), all(fail...),
			unready("PodNotCreated: ", "annotate statefulset web --overwrite tried-at=$(date +%s)"))).
		Assess("the command of the status makes it retry at once", all(kubectl("delete", "resourcequota", "pods"), tryAtOnce("now"),
			podExistsWithin(3*time.Second, "web-1"), scaleIs(2))).
		Feature())
	testEnv.Test(t, feature("a ServiceAccount that does not exist").
		Assess("is named", all(apply(absentAccount),
			unready("PodNotCreated: ", "pod web-0 cannot be created", `serviceaccount "absent" not found`))).
		Assess("the pod is created when it exists", all(kubectl("create", "serviceaccount", "absent"), scaleIs(1))).
		Feature())
	testEnv.Test(t, feature("a Pod Security Standard").
		Assess("is named", all(apply(withTemplate("{spec: {hostNetwork: true}}")),
			unready("PodNotCreated: ", "pod web-0 cannot be created", `violates PodSecurity "restricted:latest"`, "hostNetwork=true"))).
		Assess("the pod is created when the template is corrected", all(apply(undeclared), scaleIs(1))).
		Feature())
	const policy = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: e2e-denied}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations:
  - expression: "!has(object.metadata.labels) || !('denied' in object.metadata.labels)"
    message: pods with the label denied are denied here
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: e2e-denied}
spec: {policyName: e2e-denied, validationActions: [Deny]}
`
	testEnv.Test(t, feature("an admission policy").
		Assess("is named", all(
			afterwards(clusterKubectl("delete", "--ignore-not-found", "validatingadmissionpolicybinding,validatingadmissionpolicy", "e2e-denied")),
			clusterApply(policy), policyRefuses("pods with the label denied are denied here"), apply(withTemplate("{metadata: {labels: {denied: 'true'}}}")),
			unready("PodNotCreated: ", "pod web-0 cannot be created", "pods with the label denied are denied here"))).
		Assess("the pod is created when the policy is deleted", all(
			clusterKubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "e2e-denied"), scaleIs(1))).
		Feature())
}

// podExistsWithin fails if a pod does not exist before the limit.
func podExistsWithin(limit time.Duration, name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, cluster.EventuallyWithin(ctx, limit, "pod "+name, func(ctx context.Context) (string, bool) {
			err := theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: name}, &corev1.Pod{})
			return fmt.Sprint(err), err == nil
		}))
	})
}

// policyRefuses waits until the API server enforces an admission policy, which it detects with a delay.
func policyRefuses(answer string) features.Func {
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: refused, labels: {denied: "true"}}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers: [{name: a, image: a, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
`
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the policy to reject a pod", func(ctx context.Context) (string, bool) {
			out, err := theCluster.KubectlWithInput(ctx, pod, "create", "--dry-run=server", "-n", in(ctx), "-f", "-")
			return out, err != nil && strings.Contains(err.Error(), answer)
		})
	})
}

// quota returns a ResourceQuota that limits the number of pods.
func quota(pods int) string {
	return fmt.Sprintf("{apiVersion: v1, kind: ResourceQuota, metadata: {name: pods}, spec: {hard: {pods: '%d'}}}", pods)
}

// TestPodsThatKubernetesDoesNotDeleteAreNamed covers kubernetes/kubernetes#140858. If this test fails because Kubernetes deletes the
// pods, the message in the status can be removed.
func TestPodsThatKubernetesDoesNotDeleteAreNamed(t *testing.T) {
	testEnv.Test(t, feature("more pods than declared").
		Assess("five pods", all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("one pod below a smaller scale is missing", all(
			apply(quota(2)), kubectl("delete", "pod", "web-0"), kubectl("scale", "statefulset", server, "--replicas=2"),
			unready("SurplusPods: 4 pods exist, 2 are desired", "pods web-2, web-3 and web-4 are above the scale of 2", "cannot create web-0",
				"delete pod web-2 web-3 web-4; pod web-0 cannot be created: ", "exceeded quota: pods"),
			readyIs("2/2"))).
		Assess("the command of the status helps", all(kubectl("delete", "pod", "web-2", "web-3", "web-4"), scaleIs(2))).
		Feature())
	testEnv.Test(t, feature("as many pods as declared, but with other ordinals").
		Assess("three pods", all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3))).
		Assess("one pod below a smaller scale is missing", all(
			apply(quota(2)), kubectl("delete", "pod", "web-0"), kubectl("scale", "statefulset", server, "--replicas=2"),
			unready("SurplusPods: pod web-0 is missing, and pod web-2 is surplus", "pod web-2 is above the scale of 2", "cannot create web-0",
				"delete pod web-2; "))).
		Assess("the status is not written again", writesNothing(passesAreForced(5))).
		Assess("the command of the status helps", all(kubectl("delete", "pod", "web-2"), scaleIs(2))).
		Feature())
}

// TestTerminatingPodsAreToldApart verifies that the status counts terminating pods separately. A finalizer keeps the pods, like a
// server that ignores SIGTERM. The pods stay ready, and the StatefulSet counts them as ready.
func TestTerminatingPodsAreToldApart(t *testing.T) {
	hold := func(pods ...string) features.Func { return finalizerOf(`["example.com/hold"]`, pods...) }
	letGo := func(pods ...string) features.Func { return finalizerOf("null", pods...) }
	testEnv.Test(t, feature("pods that are being deleted").
		Assess("three run", all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3))).
		Assess("after a scale-down, no more pods are reported ready than declared", neverMoreThanAskedFor(all(
			hold("web-1", "web-2"), kubectl("scale", "statefulset", server, "--replicas=1"),
			unready("Progressing: 3 pods exist, 1 are desired; 2 pods are terminating, each with a grace period of 30 s"), readyIs("1/1"),
			letGo("web-1", "web-2"), scaleIs(1)))).
		Assess("a pod that is being replaced does not count as ready", neverMoreThanAskedFor(all(
			hold("web-0"), kubectl("delete", "pod", "web-0", "--wait=false"),
			// The StatefulSet counts a terminating pod as ready, but not as up to date.
			eventuallyPrints("1", "statefulset/web", ".status.readyReplicas"), eventuallyPrints("", "statefulset/web", ".status.updatedReplicas"),
			unready("PodsNotReady: 0 of 1 pods are ready; 1 pod is terminating, with a grace period of 30 s"), readyIs("0/1"),
			letGo("web-0"), scaleIs(1)))).
		Feature())
}

// finalizerOf sets the finalizers of pods.
func finalizerOf(finalizers string, pods ...string) features.Func {
	var steps []features.Func
	for _, pod := range pods {
		steps = append(steps, kubectl("patch", "pod", pod, "--type=merge", "-p", `{"metadata":{"finalizers":`+finalizers+`}}`))
	}
	return all(steps...)
}

// readyIs waits until status.ready is READY/WANTED.
func readyIs(want string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "status.ready "+want, func(ctx context.Context) (string, bool) {
			ready := mcpServer(ctx, t).Status.Ready
			return ready, ready == want
		})
	})
}

// neverMoreThanAskedFor runs steps. It fails if, in the meantime, a status of the MCPServer reports more ready pods than declared.
func neverMoreThanAskedFor(steps ...features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		until, cancel := context.WithTimeout(ctx, watchTimeout)
		defer cancel()
		watch := watchFromNow(until, t, &v1beta1.MCPServerList{})
		defer watch.Stop()
		ctx = all(steps...)(ctx, t, config)
		for _, mcp := range versionsUntil(t, watch, mcpServer(ctx, t)) {
			var ready, wanted int
			if _, err := fmt.Sscanf(mcp.Status.Ready, "%d/%d", &ready, &wanted); err != nil || ready > wanted {
				t.Errorf("status.ready is %q", mcp.Status.Ready)
			}
		}
		return ctx
	}
}

// TestAKillForMemoryIsToldAfterwards verifies that the Ready condition reports an out-of-memory kill after the container has restarted
// and Ready is True.
func TestAKillForMemoryIsToldAfterwards(t *testing.T) {
	testEnv.Test(t, feature("an out-of-memory kill").
		Assess("a pod", all(apply(undeclared), scaleIs(1))).
		Assess("the container was killed and has restarted", step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "the pod's status to be written", func(ctx context.Context) (string, bool) {
				pod := get(ctx, t, "web-0", &corev1.Pod{})
				pod.Status.ContainerStatuses[0].RestartCount = 1
				pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
					Reason: "OOMKilled", ExitCode: 137, StartedAt: metav1.Now(), FinishedAt: metav1.Now(),
				}
				err := theCluster.Client.Status().Update(ctx, pod)
				return fmt.Sprint(err), err == nil
			})
		})).
		Assess("the message reports the kill, and Ready is True", step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "Ready True with the kill", func(ctx context.Context) (string, bool) {
				mcp := mcpServer(ctx, t)
				condition := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
				return fmt.Sprint(condition), ready(mcp) && condition.Reason == "PodsReady" &&
					strings.HasPrefix(condition.Message, `1 of 1 pods are ready; pod web-0: container "mcp" was killed at `)
			})
		})).
		Assess("the status is not written again", writesNothing(passesAreForced(5))).
		Feature())
}
