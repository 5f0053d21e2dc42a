package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"sigs.k8s.io/e2e-framework/pkg/features"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/tests/cluster"
)

// TestWhatIsOwnedIsWhatWasBuilt uses each MCPServer of the golden files. It verifies that the fields that the operator owns on the API
// server equal what the builders produce, so that a second pass writes nothing.
func TestWhatIsOwnedIsWhatWasBuilt(t *testing.T) {
	theCluster.NeedAuditLog(t)
	files, err := filepath.Glob("../../applyconfigs/testdata/*.yaml")
	must(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, ".golden.yaml") {
			continue
		}
		testEnv.Test(t, feature(strings.TrimSuffix(filepath.Base(file), ".yaml")).
			Assess("the operator owns exactly what was built", all(apply(goldenCase(t, file)), childrenAreAsBuilt())).
			Assess("forced passes write no child", writesNo(isChild, passesAreForced(3))).
			Feature())
	}
}

// goldenCase returns an MCPServer of the golden files without its namespace and UID.
func goldenCase(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	object := &unstructured.Unstructured{}
	must(t, yaml.Unmarshal(content, &object.Object))
	object.SetNamespace("")
	object.SetUID("")
	content, err = yaml.Marshal(object.Object)
	must(t, err)
	return string(content)
}

// childrenAreAsBuilt waits until the operator owns exactly the fields that the builders produce in each child.
func childrenAreAsBuilt() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the owned fields to equal the built fields", func(ctx context.Context) (string, bool) {
			server := mcpServer(ctx, t)
			if server.Status.ObservedGeneration != server.Generation {
				return "not observed yet", false
			}
			live := statefulSet(ctx, t)
			if live.UID == "" {
				return "no StatefulSet yet", false
			}
			fixed, err := applyconfigs.FixedBy(server, live)
			must(t, err)
			if changed := applyconfigs.ChangedClaims(server, live); len(changed) > 0 {
				t.Fatalf("the claims %v differ from the spec", changed)
			}
			created, err := applyconfigs.FixedFor(server)
			must(t, err)
			if !equality.Semantic.DeepEqual(created.Selector, fixed.Selector) || created.ServiceName != fixed.ServiceName ||
				created.PodManagementPolicy != fixed.PodManagementPolicy {
				t.Fatalf("created with %+v, and is %+v", created, fixed)
			}
			clientService, headlessService := applyconfigs.ClientService(server, fixed, false), applyconfigs.HeadlessService(server, fixed)
			set, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{
				Replicas: server.Spec.DeclaredReplicas(), Declared: server.Spec.DeclaredReplicas(),
			}, fixed, applyconfigs.Cluster{
				IPFamily: get(ctx, t, *clientService.Name, &corev1.Service{}).Spec.IPFamilies[0],
			}, nil)
			must(t, err)
			var different []string
			compare := func(name string, want, owned runtime.ApplyConfiguration, err error) {
				must(t, err)
				if !equality.Semantic.DeepEqual(want, owned) {
					different = append(different, name+"\nbuilt: "+manifest(t, want)+"\nowned: "+manifest(t, owned))
				}
			}
			owned, err := appsv1ac.ExtractStatefulSet(live, applyconfigs.FieldManager)
			compare("StatefulSet", set, owned, err)
			for _, want := range []*corev1ac.ServiceApplyConfiguration{clientService, headlessService} {
				owned, err := corev1ac.ExtractService(get(ctx, t, *want.Name, &corev1.Service{}), applyconfigs.FieldManager)
				compare(*want.Name, want, owned, err)
			}
			if want := applyconfigs.ServiceAccount(server); want != nil {
				owned, err := corev1ac.ExtractServiceAccount(get(ctx, t, *want.Name, &corev1.ServiceAccount{}), applyconfigs.FieldManager)
				compare("ServiceAccount", want, owned, err)
			}
			if want := applyconfigs.NetworkPolicy(server, fixed); want != nil {
				owned, err := networkingv1ac.ExtractNetworkPolicy(get(ctx, t, *want.Name, &networkingv1.NetworkPolicy{}), applyconfigs.FieldManager)
				compare("NetworkPolicy", want, owned, err)
			}
			if want := applyconfigs.PodDisruptionBudget(server, fixed); want != nil {
				owned, err := policyv1ac.ExtractPodDisruptionBudget(get(ctx, t, *want.Name, &policyv1.PodDisruptionBudget{}), applyconfigs.FieldManager)
				compare("PodDisruptionBudget", want, owned, err)
			}
			return strings.Join(different, "\n"), len(different) == 0
		})
	})
}

func manifest(t *testing.T, object any) string {
	t.Helper()
	content, err := yaml.Marshal(object)
	must(t, err)
	return string(content)
}

// isChild separates writes of children from writes of the status. An ongoing rollout can cause status writes.
func isChild(request cluster.Request) bool {
	return request.Resource != "mcpservers" && request.Resource != "events"
}
