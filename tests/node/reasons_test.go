package node

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheStatusNamesTheReason: each row has a problem of a pod on a real node and the message that the status must contain. All rows run
// at the same time, each in its own MCPServer.
func TestTheStatusNamesTheReason(t *testing.T) {
	const stateless = "args: [-stateless]"
	rows := []struct {
		name     string // the name of the MCPServer
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
			// On a slow machine, the server would be ready for a moment before it is killed.
			"memory", server("memory", serverImage, "args: [-stateless, -allocate=200]", "resources: {limits: {memory: 64Mi}}",
				"podTemplateSpec: {spec: {containers: [{name: mcp, readinessProbe: {tcpSocket: {port: mcp}, initialDelaySeconds: 600}}]}}"),
			"OOMKilled", []string{"64Mi", "spec.resources.limits.memory"},
		},
		{"loopback", server("loopback", serverImage, "args: [-stateless, -host=127.0.0.1]"), "NotAnswering", []string{"port 8080", "127.0.0.1", "MCP_HOST"}},
		{
			"stdio", strings.Replace(server("stdio", serverImage, "args: [-ready-after=1h]"), "streamable-http", "stdio", 1),
			"NotAnswering", []string{"port 8080", "stdio", "spec.transport"},
		},
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
		Setup(all(afterwards(clusterDelete(denyingPolicy)), clusterApply(denyingPolicy))).
		Assess("all MCPServers are applied", apply(manifests...))
	for _, row := range rows {
		test = test.Assess(row.name, readySays(row.name, metav1.ConditionFalse, row.reason, row.words...))
	}
	test = test.Assess("the statuses do not change while the kubelet retries", statusesStay())
	testEnv.Test(t, test.Feature())
}

// statusesStayFor is long enough for several attempts of the kubelet, which follow after 10, 20 and 40 s.
const statusesStayFor = time.Minute

// statusesStay fails if the status of an MCPServer of the test changes within statusesStayFor.
func statusesStay() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		var list v1beta1.MCPServerList
		must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx))))
		said := map[string]string{}
		for i := range list.Items {
			said[list.Items[i].Name] = show(&list.Items[i])
			t.Logf("%s: %s", list.Items[i].Name, show(&list.Items[i]))
		}
		watcher, err := theCluster.Client.Watch(ctx, &v1beta1.MCPServerList{}, client.InNamespace(in(ctx)),
			&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
		must(t, err)
		defer watcher.Stop()
		for end := time.After(statusesStayFor); ; {
			select {
			case event := <-watcher.ResultChan():
				mcp, isMCPServer := event.Object.(*v1beta1.MCPServer)
				if !isMCPServer {
					t.Fatalf("watching: %v", event.Object)
				}
				if now := show(mcp); now != said[mcp.Name] {
					t.Errorf("the status of %s was %q and is %q", mcp.Name, said[mcp.Name], now)
					said[mcp.Name] = now
				}
			case <-end:
				return
			}
		}
	})
}

// TestRootThatTheTemplateRefusesIsNamed uses a namespace that does not reject the pod first.
func TestRootThatTheTemplateRefusesIsNamed(t *testing.T) {
	refused := func(name, image, context string) string {
		return server(name, image, "args: [-stateless]", "podTemplateSpec: {spec: {securityContext: {"+context+"}}}")
	}
	testEnv.Test(t, feature("an image with root and runAsNonRoot", "baseline").
		Assess("is reported", all(apply(refused("root", rootImage, "runAsUser: 0, runAsNonRoot: true")),
			readySays("root", metav1.ConditionFalse, "RootRefused", "would run as root", "runAsNonRoot: false"))).
		Feature())
}

// denyingPolicy rejects pods with a custom message, like an admission webhook.
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

func clusterDelete(manifest string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "delete", "--ignore-not-found", "-f", "-")
		must(t, err)
	})
}

// TestAQuotaIsNamed verifies that the status reports an exhausted quota, and no longer reports it when pods can be created.
func TestAQuotaIsNamed(t *testing.T) {
	testEnv.Test(t, feature("a quota", "restricted").
		Assess("that is exhausted is reported", all(
			apply("{apiVersion: v1, kind: ResourceQuota, metadata: {name: pods}, spec: {hard: {pods: '1'}}}"),
			apply(server("web", serverImage, "args: [-stateless]", "replicas: 2")),
			readySays("web", metav1.ConditionFalse, "PodNotCreated", "exceeded quota: pods", "annotate statefulset web --overwrite tried-at="))).
		Assess("is no longer reported after it is deleted", all(
			// The controller may delay its next attempt by minutes. It retries at once when the StatefulSet changes, as the status says.
			kubectl("delete", "resourcequota", "pods"), kubectl("annotate", "statefulset", "web", "--overwrite", "tried-at=now"), scaleIs("web", 2),
			readySays("web", metav1.ConditionTrue, "PodsReady", "2 of 2 pods are ready"))).
		Feature())
}

// TestPodsThatKubernetesDoesNotDeleteAreNamed reproduces kubernetes/kubernetes#140858 deterministically.
func TestPodsThatKubernetesDoesNotDeleteAreNamed(t *testing.T) {
	quota := func(pods string) string {
		return "{apiVersion: v1, kind: ResourceQuota, metadata: {name: pods}, spec: {hard: {pods: '" + pods + "'}}}"
	}
	testEnv.Test(t, feature("more pods than declared", "restricted").
		Assess("five pods", all(
			apply(server("web", serverImage, "args: [-stateless]")), scaleIs("web", 1), kubectl("scale", "statefulset", "web", "--replicas=5"), scaleIs("web", 5))).
		Assess("one pod below a smaller scale is missing", all(
			apply(quota("2")), kubectl("delete", "pod", "web-0"), kubectl("scale", "statefulset", "web", "--replicas=2"),
			readySays("web", metav1.ConditionFalse, "SurplusPods", "web-2, web-3 and web-4 are above the scale of 2", "cannot create web-0",
				"delete pod web-2 web-3 web-4"))).
		Assess("the command of the status helps", all(kubectl("delete", "pod", "web-2", "web-3", "web-4"), scaleIs("web", 2))).
		Feature())
}

// TestAKillForMemoryIsToldAfterwards verifies that the Ready condition reports an out-of-memory kill after the container has restarted
// and Ready is True.
func TestAKillForMemoryIsToldAfterwards(t *testing.T) {
	testEnv.Test(t, feature("an out-of-memory kill", "restricted").
		Assess("is reported after the container has restarted", all(
			apply(server("web", serverImage, "args: [-stateless, -allocate=200, -ready-after=3s, -once=/once/killed]", "resources: {limits: {memory: 64Mi}}",
				"volumes: [{name: once, mountPath: /once, emptyDir: {}}]")),
			readySays("web", metav1.ConditionTrue, "PodsReady", "1 of 1 pods are ready", "was killed at", "64Mi", "runs again"))).
		Feature())
}
