package node

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1alpha1"
)

// TestTheStatusNamesTheReason: a row is what can be wrong with a pod on a real node, and what the status says of it. All of them
// are wrong at the same time, each in an MCPServer of its own.
func TestTheStatusNamesTheReason(t *testing.T) {
	const stateless = "args: [-stateless]"
	rows := []struct {
		name     string // of the MCPServer
		manifest string
		reason   string
		words    []string
	}{
		{"image", server("image", "node.example/absent:1"), "ImagePullFailed", []string{"node.example/absent:1", "spec.imagePullSecrets"}},
		{
			"crash", server("crash", serverImage, "args: [-ready-after=1h, -exit-after=1s, -exit-code=3, '-termination-message=no license for this server']"),
			"CrashLoopBackOff", []string{"exit code 3", "no license for this server", "logs crash-0 -c mcp --previous"},
		},
		{"no-program", server("no-program", absentImage), "CrashLoopBackOff", []string{"/absent", "spec.command"}},
		{
			"memory", server("memory", serverImage, "args: [-stateless, -allocate=200]", "resources: {limits: {memory: 64Mi}}"),
			"OOMKilled", []string{"64Mi", "spec.resources.limits.memory"},
		},
		{"loopback", server("loopback", serverImage, "args: [-stateless, -host=127.0.0.1]"), "NotAnswering", []string{"port 8080", "127.0.0.1", "MCP_HOST"}},
		{
			"config-volume", server("config-volume", serverImage, stateless, "volumes: [{name: v, mountPath: /v, configMap: {name: absent-config}}]"),
			"VolumeNotMounted", []string{"absent-config", "spec.volumes"},
		},
		{
			"secret-volume", server("secret-volume", serverImage, stateless, "volumes: [{name: v, mountPath: /v, secret: {secretName: absent-secret}}]"),
			"VolumeNotMounted", []string{"absent-secret", "spec.volumes"},
		},
		{
			"claim-volume", server("claim-volume", serverImage, stateless, "volumes: [{name: v, mountPath: /v, persistentVolumeClaim: {claimName: absent-claim}}]"),
			"Unschedulable", []string{"absent-claim"},
		},
		{
			"config-env", server("config-env", serverImage, stateless, "envFrom: [{configMapRef: {name: absent-config}}]"),
			"ReferenceMissing", []string{"absent-config", "envFrom"},
		},
		{
			"secret-env", server("secret-env", serverImage, stateless, "secrets: [{name: absent-secret, key: token}]"),
			"ReferenceMissing", []string{"absent-secret", "secrets of the spec"},
		},
		{
			"no-node", server("no-node", serverImage, stateless, "podTemplateSpec: {spec: {nodeSelector: {disk: absent}}}"),
			"Unschedulable", []string{"no node can run it"},
		},
		{
			"init", server("init", serverImage, stateless, "podTemplateSpec: {spec: {initContainers: [{name: prepare, image: "+serverImage+
				", args: [-exit-after=0.1s, -exit-code=4], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}"),
			"CrashLoopBackOff", []string{`init container "prepare"`, "exit code 4"},
		},
		{
			"account", server("account", serverImage, stateless, "serviceAccount: absent-account"),
			"PodNotCreated", []string{"absent-account", "not found"},
		},
		{
			"standard", server("standard", serverImage, stateless, "podTemplateSpec: {spec: {hostNetwork: true}}"),
			"PodNotCreated", []string{"violates PodSecurity", "hostNetwork"},
		},
		{
			"webhook", server("webhook", serverImage, stateless, "podTemplateSpec: {metadata: {labels: {denied: 'true'}}}"),
			"PodNotCreated", []string{"pods with the label denied are denied here"},
		},
	}
	var manifests []string
	for _, row := range rows {
		manifests = append(manifests, row.manifest)
	}
	test := feature("the status names the reason", "restricted").
		Setup(clusterApply(denyingPolicy)).
		Teardown(clusterDelete(denyingPolicy)).
		Assess("of MCPServers that are applied", apply(manifests...))
	for _, row := range rows {
		test = test.Assess(row.name, readySays(row.name, metav1.ConditionFalse, row.reason, row.words...))
	}
	test = test.Assess("and says the same while the kubelet goes on trying", statusesStay())
	testEnv.Test(t, test.Feature())
}

// statusesStayFor is long enough for several tries of the kubelet, which come after 10, 20 and 40 s.
const statusesStayFor = time.Minute

// statusesStay fails if the status of an MCPServer of the test says something else within some time.
func statusesStay() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		var list v1alpha1.MCPServerList
		must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx))))
		said := map[string]string{}
		for i := range list.Items {
			said[list.Items[i].Name] = show(&list.Items[i])
			t.Logf("%s: %s", list.Items[i].Name, show(&list.Items[i]))
		}
		watcher, err := theCluster.Client.Watch(ctx, &v1alpha1.MCPServerList{}, client.InNamespace(in(ctx)),
			&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
		must(t, err)
		defer watcher.Stop()
		for end := time.After(statusesStayFor); ; {
			select {
			case event := <-watcher.ResultChan():
				mcp, isMCPServer := event.Object.(*v1alpha1.MCPServer)
				if !isMCPServer {
					t.Fatalf("watching: %v", event.Object)
				}
				if now := show(mcp); now != said[mcp.Name] {
					t.Errorf("%s said %q, and says %q", mcp.Name, said[mcp.Name], now)
					said[mcp.Name] = now
				}
			case <-end:
				return
			}
		}
	})
}

// TestRootThatTheTemplateRefusesIsNamed: where the namespace does not refuse it first.
func TestRootThatTheTemplateRefusesIsNamed(t *testing.T) {
	refused := func(name, image, context string) string {
		return server(name, image, "args: [-stateless]", "podTemplateSpec: {spec: {securityContext: {"+context+"}}}")
	}
	testEnv.Test(t, feature("root that the template refuses", "baseline").
		Assess("is named", all(apply(refused("root", rootImage, "runAsUser: 0, runAsNonRoot: true")),
			readySays("root", metav1.ConditionFalse, "RootRefused", "would run as root", "runAsNonRoot: false"))).
		Feature())
}

// denyingPolicy refuses pods as an admission webhook does, with words of its own.
const denyingPolicy = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: node-denied}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations:
  - expression: "!has(object.metadata.labels) || !('denied' in object.metadata.labels)"
    message: pods with the label denied are denied here
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: node-denied}
spec: {policyName: node-denied, validationActions: [Deny]}
`

func clusterApply(manifest string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "apply", "--server-side", "-f", "-")
		must(t, err)
	})
}

func clusterDelete(manifest string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "delete", "-f", "-")
		must(t, err)
	})
}

// TestAQuotaIsNamed, and the reason goes when there is room.
func TestAQuotaIsNamed(t *testing.T) {
	testEnv.Test(t, feature("a quota", "restricted").
		Assess("that is full is named", all(
			apply("{apiVersion: v1, kind: ResourceQuota, metadata: {name: pods}, spec: {hard: {pods: '1'}}}"),
			apply(server("web", serverImage, "args: [-stateless]", "replicas: 2")),
			readySays("web", metav1.ConditionFalse, "PodNotCreated", "exceeded quota: pods", "annotate statefulset web --overwrite tried-at="))).
		Assess("is forgotten when there is room", all(
			// The controller may wait for minutes with its next try; as the status says, it tries at once when the StatefulSet changes.
			kubectl("delete", "resourcequota", "pods"), kubectl("annotate", "statefulset", "web", "--overwrite", "tried-at=now"), scaleIs("web", 2),
			readySays("web", metav1.ConditionTrue, "PodsReady", "2 of 2 pods are ready"))).
		Feature())
}

// TestPodsThatKubernetesDoesNotDeleteAreNamed: kubernetes/kubernetes#140858, in the steps that make it certain.
func TestPodsThatKubernetesDoesNotDeleteAreNamed(t *testing.T) {
	quota := func(pods string) string {
		return "{apiVersion: v1, kind: ResourceQuota, metadata: {name: pods}, spec: {hard: {pods: '" + pods + "'}}}"
	}
	testEnv.Test(t, feature("more pods than the scale", "restricted").
		Assess("five pods", all(
			apply(server("web", serverImage, "args: [-stateless]")), scaleIs("web", 1), kubectl("scale", "statefulset", "web", "--replicas=5"), scaleIs("web", 5))).
		Assess("one is missing below a smaller scale", all(
			apply(quota("2")), kubectl("delete", "pod", "web-0"), kubectl("scale", "statefulset", "web", "--replicas=2"),
			readySays("web", metav1.ConditionFalse, "SurplusPods", "web-2, web-3 and web-4 are above the scale of 2", "cannot create web-0",
				"delete pod web-2 web-3 web-4"))).
		Assess("what the status says helps", all(kubectl("delete", "pod", "web-2", "web-3", "web-4"), scaleIs("web", 2))).
		Feature())
}

// TestAKillForMemoryIsToldAfterwards: of a container that runs again, and Ready is True.
func TestAKillForMemoryIsToldAfterwards(t *testing.T) {
	testEnv.Test(t, feature("a kill for memory", "restricted").
		Assess("is told of a container that runs again", all(
			apply(server("web", serverImage, "args: [-stateless, -allocate=200, -ready-after=3s, -once=/once/killed]", "resources: {limits: {memory: 64Mi}}",
				"volumes: [{name: once, mountPath: /once, emptyDir: {}}]")),
			readySays("web", metav1.ConditionTrue, "PodsReady", "1 of 1 pods are ready", "was killed at", "64Mi", "runs again"))).
		Feature())
}
