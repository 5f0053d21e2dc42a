package chart

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// held maps each way to set a scale to the SCALE OWNER that it results in. NAME stands for the name of the MCPServer. If nobody owns the
// field, Kubernetes records no owner for a write through the scale subresource.
var held = map[string]string{
	"delegated":  "Unclaimed",                    // scaled with kubectl scale
	"declared":   "MCPServer",                    // spec.replicas
	"autoscaled": "HorizontalPodAutoscaler/NAME", // with a fixed number, so that it needs no metrics
	"yielded":    "kubectl",                      // declared, and then scaled with kubectl scale
	"forced":     "MCPServer",                    // declared with the policy Force
}

// ofEach is the number of MCPServers for each way. There are 100 in total.
const ofEach = 20

// scaleOf returns the scale of the i-th MCPServer of a way. An autoscaler does not scale to 0, and Kubernetes records no owner for a scale
// to 0 through the scale subresource.
func scaleOf(how string, i int) int {
	if i%4 == 0 && (how == "autoscaled" || how == "yielded") {
		return 4
	}
	return []int{0, 2, 3, 5}[i%4]
}

// TestReleases verifies that Helm can install, upgrade, roll back and remove the operator without changing a pod of 100 MCPServers, whose
// scales are set in different ways. kwok simulates the node, so the operator's pods do not run. The operator runs as a process instead,
// with the arguments of the Deployment and its ServiceAccount.
func TestReleases(t *testing.T) {
	first, second := theChart(t), nextVersion(t)

	helmInstall(t, first, `{podDisruptionBudget: {enabled: true}}`)
	operator := startOperator(t, "1.0.0")
	namespace := newNamespace(t)
	kubectlApply(t, namespace, manifests())
	scaleByHand(t, namespace)
	allAreHeld(t, namespace)
	pods := watchPods(t, namespace)

	mark := auditMark(t)
	helmUpgrade(t, second, `{logLevel: debug, concurrency: 8, podDisruptionBudget: {enabled: true}}`)
	crdIsOfTheNextVersion(t, true)
	operator = handOver(t, operator, "2.0.0")
	passesOverAll(t, operator)
	if !slices.Contains(operatorArgs(t), "--concurrency=8") {
		t.Errorf("the upgrade did not change the arguments: %v", operatorArgs(t))
	}
	wroteOnlyTheUpdate(t, mark, namespace, "mcpserver-operator/2.0.0")
	allAreHeld(t, namespace)
	pods.nothingMoved(t, "after the upgrade")

	mark = auditMark(t)
	helmRollback(t, 1)
	crdIsOfTheNextVersion(t, false)
	operator = handOver(t, operator, "1.0.0")
	passesOverAll(t, operator)
	wroteOnlyTheUpdate(t, mark, namespace, "mcpserver-operator/1.0.0")
	allAreHeld(t, namespace)
	pods.nothingMoved(t, "after the rollback")

	helmUninstall(t, release)
	must(t, operator.Stop())
	if left := kubectl(t, "get", "mcpservers", "-n", namespace, "-o", "name"); strings.Count(left, "\n") != len(held)*ofEach {
		t.Fatalf("after the removal, these MCPServers remain:\n%s", left)
	}
	if left := kubectl(t, "get", "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name", kindsOfTheRelease(t)); left != theCRDByName {
		t.Errorf("after the removal, these objects remain:\n%s", left)
	}
	pods.nothingMoved(t, "after the removal")

	// The kept CRD belongs to the new release, and the new operator continues the work of the old one.
	mark = auditMark(t)
	helmInstall(t, second, "")
	operator = startOperator(t, "2.0.0")
	passesOverAll(t, operator)
	wroteOnlyTheUpdate(t, mark, namespace, "mcpserver-operator/2.0.0")
	allAreHeld(t, namespace)
	pods.nothingMoved(t, "after another installation")

	// The silence of the operator does not mean that it is idle: it still carries out a declaration.
	kubectl(t, "-n", namespace, "scale", "mcpserver", "declared-0", "--replicas=3")
	eventually(t, "a declaration to be carried out", func() (string, bool) {
		set := &appsv1.StatefulSet{}
		must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "declared-0"}, set))
		return fmt.Sprint(*set.Spec.Replicas), *set.Spec.Replicas == 3
	})
}

// kindsOfTheRelease returns all kinds of the chart's objects, in the format of kubectl get.
func kindsOfTheRelease(t *testing.T) string {
	t.Helper()
	manifests, err := render(t, theChart(t), `{podDisruptionBudget: {enabled: true}}`)
	must(t, err)
	kinds := map[string]bool{}
	for _, object := range byName(t, manifests) {
		kinds[strings.ToLower(object.GetKind())] = true
	}
	if len(kinds) < 11 {
		t.Fatalf("the chart only creates objects of these kinds: %v", kinds)
	}
	return strings.Join(slices.Sorted(maps.Keys(kinds)), ",")
}

// handOver starts a version of the operator while another one runs, as a rolling update of the Deployment does. It stops the old version
// when the new one waits for the lease.
func handOver(t *testing.T, operator *cluster.Operator, to string) *cluster.Operator {
	t.Helper()
	mark, holder := auditMark(t), leaseHolder(t)
	next := startOperator(t, to)
	eventually(t, to+" to have asked for the lease more than once", func() (string, bool) {
		asked := leaseRequests(t, mark, next)
		return fmt.Sprint(asked), asked > 2
	})
	if now := leaseHolder(t); now != holder || leaseRequests(t, mark, operator) == 0 {
		t.Fatalf("the holder of the lease changed from %s to %s while the version before %s was running", holder, now, to)
	}
	must(t, operator.Stop())
	eventually(t, "the lease to be handed over", func() (string, bool) {
		now := leaseHolder(t)
		return now, now != "" && now != holder
	})
	return next
}

// leaseHolder returns the identity of the process that holds the lease.
func leaseHolder(t *testing.T) string {
	t.Helper()
	return kubectl(t, "-n", cluster.OperatorNamespace, "get", "lease", "mcpserver-operator.toolhive.stacklok.dev",
		"-o", "jsonpath={.spec.holderIdentity}")
}

// leaseRequests returns the number of reads and renewals of the lease by a version of the operator since a mark. The user agent of these
// requests begins with the name of the executable.
func leaseRequests(t *testing.T, mark int64, operator *cluster.Operator) int {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	number := 0
	for _, request := range requests {
		if request.Resource == "leases" && strings.HasPrefix(request.UserAgent, filepath.Base(operator.Binary())+"/") {
			number++
		}
	}
	return number
}

// theCRD is the name of the CRD.
const theCRD = "mcpservers.toolhive.stacklok.dev"

// theCRDByName is the output of kubectl get -o name for the CRD.
const theCRDByName = "customresourcedefinition.apiextensions.k8s.io/" + theCRD + "\n"

// addedDescription is in the CRD of the chart's next version only.
const addedDescription = "As of the next version."

// nextVersion returns the chart with the changes of a possible next release.
func nextVersion(t *testing.T) *chart.Chart {
	t.Helper()
	next := theChart(t)
	next.Metadata.Version, next.Metadata.AppVersion = "9.9.9", "9.9.9"
	const description = "The container image of the server"
	for _, file := range next.Files {
		if file.Name == "files/crd.yaml" && bytes.Contains(file.Data, []byte(description)) {
			file.Data = bytes.ReplaceAll(file.Data, []byte(description), []byte(addedDescription+" "+description))
			return next
		}
	}
	t.Fatalf("files/crd.yaml does not contain %q", description)
	return nil
}

// crdIsOfTheNextVersion fails unless the presence of addedDescription in the CRD is as given.
func crdIsOfTheNextVersion(t *testing.T, is bool) {
	t.Helper()
	crd := kubectl(t, "get", "crd", theCRD, "-o", "yaml")
	if strings.Contains(crd, addedDescription) != is {
		t.Fatalf("the CRD contains %q: %t", addedDescription, !is)
	}
}

// operatorArgs returns the operator's arguments in the Deployment.
func operatorArgs(t *testing.T) []string {
	t.Helper()
	deployment := &appsv1.Deployment{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: cluster.OperatorNamespace, Name: "mcpserver-operator"}, deployment))
	return deployment.Spec.Template.Spec.Containers[0].Args
}

// startOperator starts a version of the operator with the arguments of the Deployment. A process outside a pod also needs the namespace
// of its lease.
func startOperator(t *testing.T, version string) *cluster.Operator {
	t.Helper()
	args := append(operatorArgs(t), "--leader-election-namespace="+cluster.OperatorNamespace)
	operator, err := theCluster.StartOperatorVersion(t.Context(), version, args...)
	must(t, err)
	t.Cleanup(func() { _ = operator.Stop() }) // needed only after a failure; otherwise the operator has ended
	return operator
}

func passesOverAll(t *testing.T, operator *cluster.Operator) {
	t.Helper()
	must(t, operator.WaitForPassOverAll(t.Context()))
}

// manifests returns the MCPServers and the autoscalers.
func manifests() string {
	var all strings.Builder
	for _, how := range slices.Sorted(maps.Keys(held)) {
		for i := range ofEach {
			name, scale, spec := fmt.Sprintf("%s-%d", how, i), scaleOf(how, i), `image: "registry.example/server:1", command: [server]`
			switch how {
			case "declared":
				spec += fmt.Sprintf(", replicas: %d", scale)
			case "forced":
				spec += fmt.Sprintf(", replicas: %d, replicasConflictPolicy: Force", scale)
			case "yielded":
				spec += ", replicas: 1"
			case "autoscaled":
				fmt.Fprintf(&all, `---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %[1]s}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: %[1]s}
  minReplicas: %[2]d
  maxReplicas: %[2]d
`, name, scale)
			}
			fmt.Fprintf(&all, "---\napiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
		}
	}
	return all.String()
}

// scaleByHand runs kubectl scale for the StatefulSets whose scale is set that way, as soon as they exist.
func scaleByHand(t *testing.T, namespace string) {
	t.Helper()
	for _, how := range []string{"delegated", "yielded"} {
		for i := range ofEach {
			name := fmt.Sprintf("%s-%d", how, i)
			eventually(t, "StatefulSet "+name, func() (string, bool) {
				err := theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &appsv1.StatefulSet{})
				return fmt.Sprint(err), err == nil
			})
			kubectl(t, "-n", namespace, "scale", "statefulset", name, fmt.Sprintf("--replicas=%d", scaleOf(how, i)))
		}
	}
}

// allAreHeld waits until every MCPServer is Ready at its scale, and the scale has the expected owner.
func allAreHeld(t *testing.T, namespace string) {
	t.Helper()
	for how, owner := range held {
		eventually(t, "every scale to have its owner: "+how, func() (string, bool) {
			var servers v1beta1.MCPServerList
			must(t, theCluster.Client.List(t.Context(), &servers, client.InNamespace(namespace)))
			var are int
			var not []string
			for _, server := range servers.Items {
				number, isHeldSo := strings.CutPrefix(server.Name, how+"-")
				if !isHeldSo {
					continue
				}
				i, err := strconv.Atoi(number)
				must(t, err)
				if server.Status.Ready == fmt.Sprintf("%[1]d/%[1]d", scaleOf(how, i)) && server.Status.Scale.Owner == strings.Replace(owner, "NAME", server.Name, 1) &&
					apimeta.IsStatusConditionTrue(server.Status.Conditions, v1beta1.ConditionReady) {
					are++
				} else {
					not = append(not, fmt.Sprintf("%s is %s, %+v", server.Name, server.Status.Ready, server.Status.Scale))
				}
			}
			return strings.Join(not, "\n"), are == ofEach
		})
	}
}

func auditMark(t *testing.T) int64 {
	t.Helper()
	mark, err := theCluster.AuditMark()
	must(t, err)
	return mark
}

// wroteOnlyTheUpdate fails if the operator has written more to the namespace since a mark than that another version of the runner is available: in each
// StatefulSet once, and in the status of each MCPServer. It also fails if the given version of the operator has sent no requests.
func wroteOnlyTheUpdate(t *testing.T, mark int64, namespace, version string) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	looked := false
	most := map[string]int{"statefulsets": len(held) * ofEach, "mcpservers": 2 * len(held) * ofEach}
	for _, request := range requests {
		looked = looked || request.UserAgent == version
		if request.Namespace != namespace || !request.IsWrite() {
			continue
		}
		if most[request.Resource]--; most[request.Resource] < 0 {
			t.Errorf("%s: %s", request.UserAgent, request)
		}
	}
	if !looked {
		t.Errorf("no requests of version %s", version)
	}
}

// newNamespace creates a namespace and deletes it when the test ends.
func newNamespace(t *testing.T) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "chart-"}}
	must(t, theCluster.Client.Create(t.Context(), namespace))
	t.Cleanup(func() { must(t, theCluster.Client.Delete(context.Background(), namespace)) })
	return namespace.Name
}
