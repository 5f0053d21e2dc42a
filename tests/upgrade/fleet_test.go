package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// way is a way to set the scale of an MCPServer.
type way struct {
	name string
	spec string // fields of the MCPServer, in YAML's flow style
	// then is what happens after the StatefulSets exist: the arguments of kubectl, to which their names are added.
	then  []string
	apply func(name string) string // or a manifest that "argocd-controller" applies for each name
	scale int32
	// owner is status.scale.owner; NAME stands for the name of the MCPServer. managers are the owners of spec.replicas in managedFields.
	owner, managers string
	conditions      string // besides Ready and UpdateAvailable
}

const operatorApplies = "mcpserver-operator/Apply"

var ways = []way{
	{name: "untouched", scale: 1, owner: "Unclaimed"},
	{name: "declared", spec: "replicas: 2", scale: 2, owner: "MCPServer", managers: operatorApplies},
	{name: "declared-zero", spec: "replicas: 0", scale: 0, owner: "MCPServer", managers: operatorApplies},
	{name: "forced", spec: "replicas: 3, replicasConflictPolicy: Force", scale: 3, owner: "MCPServer", managers: operatorApplies},
	{name: "scaled", then: []string{"scale", "statefulset", "--replicas=3"}, scale: 3, owner: "Unclaimed"},
	{name: "stopped", then: []string{"scale", "statefulset", "--replicas=0"}, scale: 0, owner: "Unclaimed"},
	{name: "patched", then: []string{"patch", "statefulset", "-p", `{"spec":{"replicas":2}}`}, scale: 2, owner: "kubectl-patch", managers: "kubectl-patch/Update"},
	{name: "yielded", spec: "replicas: 2", then: []string{"scale", "statefulset", "--replicas=3"}, scale: 3, owner: "kubectl",
		managers: "kubectl/Update/scale", conditions: v1beta1.ConditionScaleConflict},
	{name: "autoscaled", apply: autoscaler, scale: 2, owner: "HorizontalPodAutoscaler/NAME"},
	{name: "synced", apply: replicasInGit, scale: 2, owner: "argocd-controller", managers: "argocd-controller/Apply"},
}

// ofEach is the number of MCPServers for each way. There are 100 in total.
const ofEach = 10

// kinds are fields by which the MCPServers of one way differ: each kind has another pod template.
var kinds = []string{
	`transport: streamable-http`,
	`transport: sse, resources: {limits: {memory: 64Mi}}, podTemplateSpec: {spec: {containers: [{name: mcp, resources: {limits: {memory: 128Mi}}}]}}`,
	`transport: stdio, command: [serve]`,
	`transport: streamable-http, env: [{name: MODE, value: plain}], secrets: [{name: credentials, key: token, targetEnvName: TOKEN}]`,
	`transport: streamable-http, volumes: [{name: scratch, mountPath: /scratch, emptyDir: {}}], permissionProfile: {name: none}`,
}

func nameOf(w way, i int) string { return fmt.Sprintf("%s-%d", w.name, i) }

func names(w way) []string {
	var all []string
	for i := range ofEach {
		all = append(all, nameOf(w, i))
	}
	return all
}

// autoscaler has one number of replicas, so that it needs no metrics.
func autoscaler(name string) string {
	return fmt.Sprintf(`---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %[1]s}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: %[1]s}
  minReplicas: 2
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
`, name)
}

func replicasInGit(name string) string {
	return fmt.Sprintf("---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: %s}\nspec: {replicas: 2}\n", name)
}

// createFleet creates the MCPServers with the client of the earlier version, sets their scales, and waits until the operator reports them.
func createFleet(t *testing.T, namespace string) {
	t.Helper()
	var manifests strings.Builder
	for _, w := range ways {
		for i := range ofEach {
			fmt.Fprintf(&manifests, "---\napiVersion: toolhive.stacklok.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: %s}\nspec: {image: \"registry.example/server:1\", %s}\n",
				nameOf(w, i), strings.Trim(kinds[i%len(kinds)]+", "+w.spec, ", "))
		}
	}
	kubectl(t, namespace, manifests.String(), "apply", "--server-side", "-f", "-")
	eventually(t, "a StatefulSet for each MCPServer", func() (string, bool) {
		n := len(statefulSets(t, namespace))
		return fmt.Sprint(n), n == len(ways)*ofEach
	})
	for _, w := range ways {
		var applied strings.Builder
		for _, name := range names(w) {
			if w.apply != nil {
				applied.WriteString(w.apply(name))
			}
		}
		if applied.Len() > 0 {
			kubectl(t, namespace, applied.String(), "apply", "--server-side", "--field-manager=argocd-controller", "-f", "-")
		}
		if w.then == nil {
			continue
		}
		if w.then[0] == "patch" { // takes one name
			for _, name := range names(w) {
				kubectl(t, namespace, "", slices.Concat(w.then[:2], []string{name}, w.then[2:])...)
			}
			continue
		}
		kubectl(t, namespace, "", slices.Concat(w.then[:2], names(w), w.then[2:])...)
	}
	fleetIs(t, namespace, earlierSays)
}

func kubectl(t *testing.T, namespace, input string, args ...string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), input, append([]string{"-n", namespace}, args...)...)
	must(t, err)
}

func statefulSets(t *testing.T, namespace string) map[string]appsv1.StatefulSet {
	t.Helper()
	var list appsv1.StatefulSetList
	must(t, theCluster.Client.List(t.Context(), &list, client.InNamespace(namespace)))
	sets := map[string]appsv1.StatefulSet{}
	for _, set := range list.Items {
		sets[set.Name] = set
	}
	return sets
}

// mcpServers reads the MCPServers in the version that both CRDs serve.
func mcpServers(t *testing.T, namespace string) map[string]v1beta1.MCPServer {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: v1beta1.GroupVersion.Group, Version: "v1alpha1", Kind: "MCPServerList"})
	must(t, theCluster.Client.List(t.Context(), list, client.InNamespace(namespace)))
	servers := map[string]v1beta1.MCPServer{}
	for _, item := range list.Items {
		var server v1beta1.MCPServer
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &server))
		servers[server.Name] = server
	}
	return servers
}

// says returns what a version of the operator says of the i-th MCPServer of a way: status.scale.owner, and the conditions that are True.
type says func(w way, i int) (owner string, conditions []string)

// presentSays is what the present operator says. It has not changed the pods that the earlier operator created, and has changed those of the
// MCPServers in updated.
func presentSays(updated ...string) says {
	return func(w way, i int) (string, []string) {
		conditions := append(strings.Fields(w.conditions), v1beta1.ConditionReady)
		if !slices.Contains(updated, nameOf(w, i)) {
			conditions = append(conditions, v1beta1.ConditionUpdateAvailable)
		}
		return strings.ReplaceAll(w.owner, "NAME", nameOf(w, i)), conditions
	}
}

// earlierSays is what the earlier operator says. It does not recognize an autoscaler for which Kubernetes has recorded no owner, and warns of
// an autoscaler of a stdio server, because there was no runner.
func earlierSays(w way, i int) (string, []string) {
	owner, conditions := w.owner, append(strings.Fields(w.conditions), v1beta1.ConditionReady)
	if strings.HasPrefix(owner, "HorizontalPodAutoscaler/") {
		owner = v1beta1.ScaleOwnerUnclaimed
		if isStdio(i) {
			conditions = append(conditions, v1beta1.ConditionAutoscalerProblem)
		}
	}
	return owner, conditions
}

func isStdio(i int) bool { return strings.Contains(kinds[i%len(kinds)], "stdio") }

// fleetIs waits until each MCPServer has its scale, with all pods ready, and the owner and exactly the conditions that the operator says, and
// until managedFields name the same owners as before.
func fleetIs(t *testing.T, namespace string, said says) {
	t.Helper()
	eventually(t, "the scales, their owners and the conditions", func() (string, bool) {
		sets, servers := statefulSets(t, namespace), mcpServers(t, namespace)
		var wrong []string
		for _, w := range ways {
			for i, name := range names(w) {
				owner, conditions := said(w, i)
				slices.Sort(conditions)
				want := fmt.Sprintf("scale %d and %d, %d/%d ready, owner %s, managers [%s], conditions %v, observed true",
					w.scale, w.scale, w.scale, w.scale, owner, w.managers, conditions)
				if is := stateOf(t, sets[name], servers[name]); is != want {
					wrong = append(wrong, fmt.Sprintf("%s: %s, want %s", name, is, want))
				}
			}
		}
		return strings.Join(wrong, "\n"), len(wrong) == 0
	})
}

func stateOf(t *testing.T, set appsv1.StatefulSet, server v1beta1.MCPServer) string {
	t.Helper()
	owners, err := cluster.OwnersOfReplicas(&set)
	must(t, err)
	if server.Status.Scale == nil || set.Spec.Replicas == nil {
		return "no scale"
	}
	var conditions []string
	for _, condition := range server.Status.Conditions {
		if apimeta.IsStatusConditionTrue(server.Status.Conditions, condition.Type) {
			conditions = append(conditions, condition.Type)
		} else {
			conditions = append(conditions, fmt.Sprintf("%s=%s (%s: %s)", condition.Type, condition.Status, condition.Reason, condition.Message))
		}
	}
	slices.Sort(conditions)
	return fmt.Sprintf("scale %d and %d, %s ready, owner %s, managers %v, conditions %v, observed %t", *set.Spec.Replicas, server.Status.Scale.Replicas,
		server.Status.Ready, server.Status.Scale.Owner, owners, conditions, server.Status.ObservedGeneration == server.Generation)
}
