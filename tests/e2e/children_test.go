package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

var listOptions = metav1.ListOptions{}

// TestForeignObjectsAreRefused verifies that the operator does not write an object that has the name of a child but a different
// controller, not even a label.
func TestForeignObjectsAreRefused(t *testing.T) {
	const foreignStatefulSet = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  replicas: 0
  serviceName: other
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec: {containers: [{name: other, image: "registry.example/other:1"}]}
`
	foreignService := func(name string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {selector: {app: other}, ports: [{port: 80}]}
`, name)
	}
	for _, foreign := range []struct {
		kind, name, manifest string
		object               client.Object
	}{
		{"StatefulSet", "web", foreignStatefulSet, &appsv1.StatefulSet{}},
		{"Service", "mcp-web-proxy", foreignService("mcp-web-proxy"), &corev1.Service{}},
		{"Service", "mcp-web-headless", foreignService("mcp-web-headless"), &corev1.Service{}},
		{"ServiceAccount", "mcp-web", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: mcp-web, labels: {team: a}}}", &corev1.ServiceAccount{}},
	} {
		var before string
		testEnv.Test(t, feature(foreign.kind+" "+foreign.name).
			Assess("a foreign object exists", all(
				applyAs("another-team", foreign.manifest),
				step(func(ctx context.Context, t *testing.T) {
					// Its controller writes the status once.
					eventually(ctx, t, "the StatefulSet controller to write the status", func(ctx context.Context) (string, bool) {
						object := get(ctx, t, foreign.name, foreign.object)
						set, isSet := object.(*appsv1.StatefulSet)
						before = object.GetResourceVersion()
						return "", !isSet || set.Status.ObservedGeneration == set.Generation
					})
				}))).
			Assess("the condition contains its name and its owner", all(
				apply(undeclared),
				conditionSays(v1beta1.ConditionStalled, "NotControlled", foreign.kind, foreign.name, "another-team", "Delete it"),
				eventSays("NotControlled", foreign.kind, foreign.name, "another-team"))).
			Assess("forced passes and a restart do not change it", all(
				passesAreForced(3), operatorRestarts(),
				step(func(ctx context.Context, t *testing.T) {
					after := get(ctx, t, foreign.name, foreign.object).GetResourceVersion()
					if after != before {
						t.Fatalf("the object was written: resourceVersion was %s and is %s", before, after)
					}
				}))).
			Assess("when it is deleted, the operator creates the child", all(
				kubectl("delete", foreign.kind, foreign.name),
				scaleIs(1), conditionIsGone(v1beta1.ConditionStalled), childrenAreThere())).
			Feature())
	}
}

// TestDeletion verifies that the children are deleted with the MCPServer, and that a child that is deleted alone is recreated.
func TestDeletion(t *testing.T) {
	test := feature("deletion").Assess("the children exist", all(apply(declared(2)), scaleIs(2), childrenAreThere()))
	for _, child := range []string{
		"statefulset/web", "service/mcp-web-proxy", "service/mcp-web-headless", "serviceaccount/mcp-web", "poddisruptionbudget/mcp-web",
	} {
		test = test.Assess(child+" is recreated", all(kubectl("delete", child), childrenAreThere(), scaleIs(2)))
	}
	testEnv.Test(t, test.
		Assess("the children and pods are deleted with the MCPServer and are not recreated", nothingComesBack(
			kubectl("delete", "mcpserver", server, "--cascade=background"), eventuallyNothingIsLeft())).
		Feature())
}

// TestForegroundDeletion verifies that no child is recreated while the MCPServer waits for the deletion of its children, and that
// everything is deleted when kubectl returns.
func TestForegroundDeletion(t *testing.T) {
	testEnv.Test(t, feature("foreground deletion").
		Assess("the MCPServer exists", all(apply(declared(2)), scaleIs(2))).
		Assess("the MCPServer, its children and its pods are deleted and not recreated", nothingComesBack(
			kubectl("delete", "mcpserver", server, "--cascade=foreground", "--timeout=60s"),
			step(func(ctx context.Context, t *testing.T) {
				if left := leftOver(ctx, t); len(left) > 0 {
					t.Fatalf("kubectl has returned, but these objects remain: %v", left)
				}
			}))).
		Feature())
}

// eventuallyNothingIsLeft waits until the children of the MCPServer and the pods are deleted.
func eventuallyNothingIsLeft() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "no children and no pods", func(ctx context.Context) (string, bool) {
			left := leftOver(ctx, t)
			return fmt.Sprint(left), len(left) == 0
		})
	})
}

// leftOver returns the names of the children and the pods of the MCPServer, including those that are being deleted.
func leftOver(ctx context.Context, t *testing.T) []string {
	t.Helper()
	var left []string
	for _, child := range children() {
		err := theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: child.GetName()}, child)
		must(t, client.IgnoreNotFound(err))
		if err == nil {
			left = append(left, fmt.Sprintf("%T %s", child, child.GetName()))
		}
	}
	var pods corev1.PodList
	must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx))))
	for _, pod := range pods.Items {
		if strings.HasPrefix(pod.Name, server+"-") {
			left = append(left, "pod "+pod.Name)
		}
	}
	return left
}

// nothingComesBack runs steps that delete the MCPServer, restarts the operator, and creates a second MCPServer with every child. It
// fails if a child of the first MCPServer is created after the steps begin and before the children of the second one are created.
// The watches return events in order, so they have returned all earlier creations by then.
func nothingComesBack(steps ...features.Func) features.Func {
	const other = "other"
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		until, cancel := context.WithTimeout(ctx, watchTimeout)
		defer cancel()
		var watches []watch.Interface
		for _, kind := range kindsOfChildren() {
			watches = append(watches, watchFromNow(until, t, kind))
		}
		ctx = all(append(steps,
			operatorStops(), operatorStarts(), // not operatorRestarts, which may have no MCPServer whose pass it can wait for
			apply(strings.Replace(full, "name: web", "name: "+other, 1)))...)(ctx, t, config)
		for _, w := range watches {
			if created := createdUntil(t, w, other); len(created) > 0 {
				t.Errorf("%d children were recreated, such as %s", len(created), created[0])
			}
			w.Stop()
		}
		if left := leftOver(ctx, t); len(left) > 0 {
			t.Errorf("%v exist again", left)
		}
		// If it were deleted with its namespace, seconds later, it could disappear while the next test waits for a pass over it.
		return kubectl("delete", "mcpserver", other)(ctx, t, config)
	}
}

// watchTimeout ends a watch that does not return the expected events.
const watchTimeout = 3 * time.Minute

// watchFromNow watches the objects of a kind in the namespace of the test. It ignores existing objects.
func watchFromNow(ctx context.Context, t *testing.T, kind client.ObjectList) watch.Interface {
	t.Helper()
	must(t, theCluster.Client.List(ctx, kind, client.InNamespace(in(ctx))))
	w, err := theCluster.Client.Watch(ctx, kind, &client.ListOptions{
		Namespace: in(ctx), Raw: &metav1.ListOptions{ResourceVersion: kind.GetResourceVersion()},
	})
	must(t, err)
	return w
}

// createdUntil returns the creations that a watch reports before it reports the child of the given MCPServer.
func createdUntil(t *testing.T, w watch.Interface, server string) []string {
	t.Helper()
	var created []string
	for event := range w.ResultChan() {
		object, isObject := event.Object.(client.Object)
		switch {
		case !isObject:
			t.Fatalf("watching: %v", apierrors.FromObject(event.Object))
		case event.Type != watch.Added:
		case slices.ContainsFunc(childrenOf(server), func(child client.Object) bool { return child.GetName() == object.GetName() }):
			return created
		default:
			created = append(created, fmt.Sprintf("%T %s", object, object.GetName()))
		}
	}
	t.Fatalf("a watch ended before the children of MCPServer %q existed; it reported %v", server, created)
	return nil
}

// kindsOfChildren returns an empty list of each kind of child.
func kindsOfChildren() []client.ObjectList {
	return []client.ObjectList{&appsv1.StatefulSetList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{},
		&networkingv1.NetworkPolicyList{}, &policyv1.PodDisruptionBudgetList{}}
}

func childrenAreThere() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "five children", func(ctx context.Context) (string, bool) {
			there := existing(ctx, t)
			return fmt.Sprint(there), len(there) == 5
		})
	})
}

// existing returns the names of the children that exist and are not being deleted.
func existing(ctx context.Context, t *testing.T) []string {
	t.Helper()
	var there []string
	for _, object := range children() {
		err := theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: object.GetName()}, object)
		if apierrors.IsNotFound(err) {
			continue
		}
		must(t, err)
		if object.GetDeletionTimestamp().IsZero() {
			there = append(there, fmt.Sprintf("%T %s", object, object.GetName()))
		}
	}
	return there
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// children returns an empty object with the name of each child that the MCPServer of a test can have.
func children() []client.Object { return childrenOf(server) }

// childrenOf is children for an MCPServer with another name.
func childrenOf(server string) []client.Object {
	return []client.Object{
		&appsv1.StatefulSet{ObjectMeta: named(applyconfigs.StatefulSetName(server))},
		&corev1.Service{ObjectMeta: named(applyconfigs.ClientServiceName(server))},
		&corev1.Service{ObjectMeta: named(applyconfigs.HeadlessServiceName(server))},
		&corev1.ServiceAccount{ObjectMeta: named(applyconfigs.ServiceAccountName(server))},
		&networkingv1.NetworkPolicy{ObjectMeta: named(applyconfigs.NetworkPolicyName(server))},
		&policyv1.PodDisruptionBudget{ObjectMeta: named(applyconfigs.PodDisruptionBudgetName(server))},
	}
}

// annotationIsGone fails if the StatefulSet still has the declared-replicas annotation.
func annotationIsGone() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if value, found := statefulSet(ctx, t).Annotations[v1beta1.DeclaredReplicasAnnotation]; found {
			t.Fatalf("the StatefulSet still has the annotation declared-replicas: %s", value)
		}
	})
}

// quietTime is the time for which nothing may be written.
const quietTime = 20 * time.Second
