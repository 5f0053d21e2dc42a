package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

var listOptions = metav1.ListOptions{}

// TestForeignObjectsAreRefused: an object of a child's name that is someone else's is not written, not even one label.
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
	} {
		var before string
		testEnv.Test(t, feature(foreign.kind+" "+foreign.name).
			Assess("belongs to someone else", all(
				applyAs("another-team", foreign.manifest),
				step(func(ctx context.Context, t *testing.T) {
					// Its controller writes the status once.
					eventually(ctx, t, "the StatefulSet controller has seen it", func(ctx context.Context) (string, bool) {
						object := get(ctx, t, foreign.name, foreign.object)
						set, isSet := object.(*appsv1.StatefulSet)
						before = object.GetResourceVersion()
						return "", !isSet || set.Status.ObservedGeneration == set.Generation
					})
				}))).
			Assess("is refused, with its name and its owner", all(
				apply(undeclared),
				conditionSays(v1alpha1.ConditionStalled, "NotControlled", foreign.kind, foreign.name, "another-team", "Delete it"),
				eventSays("NotControlled", foreign.kind, foreign.name, "another-team"))).
			Assess("and untouched through forced passes and a restart", all(
				passesAreForced(3), operatorRestarts(),
				step(func(ctx context.Context, t *testing.T) {
					after := get(ctx, t, foreign.name, foreign.object).GetResourceVersion()
					if after != before {
						t.Fatalf("resourceVersion was %s and is %s: it was written", before, after)
					}
				}))).
			Assess("when it goes away the operator goes on by itself", all(
				kubectl("delete", foreign.kind, foreign.name),
				scaleIs(1), conditionIsGone(v1alpha1.ConditionStalled), childrenAreThere())).
			Feature())
	}
}

// TestDeletion: the children go with the MCPServer, and one that is deleted alone comes back.
func TestDeletion(t *testing.T) {
	test := feature("deletion").Assess("children are there", all(apply(declared(2)), scaleIs(2), childrenAreThere()))
	for _, child := range []string{
		"statefulset/web", "service/mcp-web-proxy", "service/mcp-web-headless", "serviceaccount/mcp-web", "poddisruptionbudget/mcp-web",
	} {
		test = test.Assess(child+" comes back", all(kubectl("delete", child), childrenAreThere(), scaleIs(2)))
	}
	testEnv.Test(t, test.
		Assess("they go with the MCPServer", all(
			kubectl("delete", "mcpserver", server),
			step(func(ctx context.Context, t *testing.T) {
				eventually(ctx, t, "no children", func(ctx context.Context) (string, bool) {
					there := existing(ctx, t)
					return fmt.Sprint(there), len(there) == 0
				})
			}))).
		Feature())
}

// TestForegroundDeletion: while the MCPServer waits for its children, none comes back.
func TestForegroundDeletion(t *testing.T) {
	testEnv.Test(t, feature("deletion in the foreground").
		Assess("is there", all(apply(declared(2)), scaleIs(2))).
		Assess("goes", all(
			kubectl("delete", "mcpserver", server, "--cascade=foreground", "--timeout=60s"),
			step(func(ctx context.Context, t *testing.T) {
				if there := existing(ctx, t); len(there) > 0 {
					t.Fatalf("%v came back", there)
				}
			}))).
		Feature())
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

// existing returns the names of the children that are there and not on their way out.
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

// children returns an empty object of the name of each child that the MCPServer of a test can have.
func children() []client.Object {
	return []client.Object{
		&appsv1.StatefulSet{ObjectMeta: named(applyconfigs.StatefulSetName(server))},
		&corev1.Service{ObjectMeta: named(applyconfigs.ClientServiceName(server))},
		&corev1.Service{ObjectMeta: named(applyconfigs.HeadlessServiceName(server))},
		&corev1.ServiceAccount{ObjectMeta: named(applyconfigs.ServiceAccountName(server))},
		&networkingv1.NetworkPolicy{ObjectMeta: named(applyconfigs.NetworkPolicyName(server))},
		&policyv1.PodDisruptionBudget{ObjectMeta: named(applyconfigs.PodDisruptionBudgetName(server))},
	}
}

// annotationIsGone: with the declaration goes its record.
func annotationIsGone() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if value, found := statefulSet(ctx, t).Annotations[v1alpha1.DeclaredReplicasAnnotation]; found {
			t.Fatalf("the StatefulSet still says that %s was declared", value)
		}
	})
}

// quietTime is for how long nothing may be written.
const quietTime = 20 * time.Second
