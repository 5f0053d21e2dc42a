package clients

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1beta1"
)

// argoOverrides installs the health check and the actions as described in docs/operations.md, into an argocd-cm that has other settings, and
// reads them from there as Argo CD does.
func argoOverrides(t *testing.T) map[string]v1alpha1.ResourceOverride {
	t.Helper()
	argocd := newNamespace(t)
	_, err := theCluster.KubectlWithInput(t.Context(), `
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, labels: {app.kubernetes.io/part-of: argocd}}
data: {url: "https://argocd.example"}
`, "apply", "--server-side", "-n", argocd, "-f", "-")
	must(t, err)
	kubectl(t, argocd, "apply", "--server-side", "--field-manager=mcpserver-health", "-f", "deploy/argocd/argocd-cm.yaml")
	manager := settings.NewSettingsManager(t.Context(), theCluster.Clients, argocd)
	overrides, err := manager.GetResourceOverrides()
	must(t, err)
	if overrides["toolhive.stacklok.dev/MCPServer"].HealthLua == "" {
		t.Fatalf("Argo CD finds no health check in %v", overrides)
	}
	others, err := theCluster.Kubectl(t.Context(), "-n", argocd, "get", "configmap", "argocd-cm", "-o", "jsonpath={.data.url}")
	must(t, err)
	if others != "https://argocd.example" {
		t.Fatalf("the other settings of Argo CD were lost: url is %q", others)
	}
	return overrides
}

func argoHealths(t *testing.T) health.HealthOverride {
	t.Helper()
	return lua.ResourceHealthOverrides(argoOverrides(t))
}

func healthOf(t *testing.T, object *unstructured.Unstructured, healths health.HealthOverride) *health.HealthStatus {
	t.Helper()
	status, err := health.GetResourceHealth(object, healths)
	must(t, err)
	if status == nil {
		t.Fatal("Argo CD has no health for the MCPServer")
	}
	return status
}

// TestArgoCDHealth verifies the health that Argo CD computes for each state of an MCPServer.
func TestArgoCDHealth(t *testing.T) {
	healths := argoHealths(t)
	const (
		ready   = `{type: Ready, status: "True", reason: PodsReady, message: 3 of 3 pods are ready}`
		yielded = `{type: ScaleConflict, status: "True", reason: ScaleYielded, message: kubectl holds the scale at 5}`
		stalled = `{type: Ready, status: "False", reason: Rejected, message: exceeded quota}, ` +
			`{type: Stalled, status: "True", reason: Rejected, message: exceeded quota}`
	)
	for _, row := range []struct {
		name    string
		status  string // of an MCPServer in generation 2
		want    health.HealthStatusCode
		message string
	}{
		{"just created", `{}`, health.HealthStatusProgressing, "the operator has not seen this yet"},
		{"judged without conditions", `{observedGeneration: 2}`, health.HealthStatusProgressing, "the operator has not seen this yet"},
		{"Ready before the last change", `{observedGeneration: 1, conditions: [` + ready + `]}`,
			health.HealthStatusProgressing, "the operator has not seen this yet"},
		{"Stalled before the last change", `{observedGeneration: 1, conditions: [` + stalled + `]}`,
			health.HealthStatusProgressing, "the operator has not seen this yet"},
		{"Reconciling", `{observedGeneration: 2, conditions: [
			{type: Ready, status: "False", reason: PodsNotReady, message: 1 of 3 pods are ready},
			{type: Reconciling, status: "True", reason: PodsNotReady, message: 1 of 3 pods are ready}]}`,
			health.HealthStatusProgressing, "1 of 3 pods are ready"},
		{"Ready", `{observedGeneration: 2, conditions: [` + ready + `]}`, health.HealthStatusHealthy, "3 of 3 pods are ready"},
		{"scaled to 0", `{observedGeneration: 2, conditions: [
			{type: Ready, status: "True", reason: ScaledToZero, message: "scaled to 0: no pod runs"}]}`,
			health.HealthStatusHealthy, "scaled to 0: no pod runs"},
		{"Ready, the scale yielded", `{observedGeneration: 2, conditions: [` + yielded + `, ` + ready + `]}`,
			health.HealthStatusHealthy, "3 of 3 pods are ready; ScaleConflict: kubectl holds the scale at 5"},
		{"Ready, with everything else", `{observedGeneration: 2, conditions: [` + ready + `,
			{type: AutoscalerProblem, status: "True", reason: AutoscalersCompete, message: two},
			{type: FieldConflict, status: "True", reason: FieldFight, message: a fight}]}`,
			health.HealthStatusHealthy, "3 of 3 pods are ready; FieldConflict: a fight; AutoscalerProblem: two"},
		{"Stalled", `{observedGeneration: 2, conditions: [` + stalled + `]}`, health.HealthStatusDegraded, "exceeded quota"},
		{"Stalled, the scale yielded", `{observedGeneration: 2, conditions: [` + stalled + `, ` + yielded + `]}`,
			health.HealthStatusDegraded, "exceeded quota; ScaleConflict: kubectl holds the scale at 5"},
	} {
		t.Run(row.name, func(t *testing.T) {
			object := &unstructured.Unstructured{}
			must(t, yaml.Unmarshal([]byte(mcpServer("web", "registry.example/server:1")), object))
			object.SetGeneration(2)
			status := map[string]any{}
			must(t, yaml.Unmarshal([]byte(strings.ReplaceAll(row.status, "\t", " ")), &status))
			object.Object["status"] = status
			if got := healthOf(t, object, healths); got.Status != row.want || got.Message != row.message {
				t.Errorf("%s: %s", got.Status, got.Message)
			}
		})
	}
	t.Run("being deleted", func(t *testing.T) {
		object := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(mcpServer("web", "registry.example/server:1")), object))
		must(t, unstructured.SetNestedField(object.Object, "2026-01-01T00:00:00Z", "metadata", "deletionTimestamp"))
		if got := healthOf(t, object, healths); got.Status != health.HealthStatusProgressing {
			t.Errorf("%s: %s", got.Status, got.Message)
		}
	})
}

// TestArgoCDHealthFollowsReady verifies that Argo CD never reports an MCPServer as Healthy before it matches its spec, and that it reports
// a rejected spec as Degraded with the reason.
func TestArgoCDHealthFollowsReady(t *testing.T) {
	namespace := newNamespace(t)
	said := recordHealth(t, namespace)
	apply(t, namespace, mcpServer("web", "registry.example/server:1"))
	said.eventually(t, health.HealthStatusHealthy, "1 of 1 pods are ready")
	apply(t, namespace, mcpServer("web", "registry.example/server:1",
		"podTemplateSpec: {spec: {containers: [{name: mcp, volumeMounts: [{name: missing, mountPath: /data}]}]}}"))
	said.eventually(t, health.HealthStatusDegraded, `volumeMounts[0].name: Not found: "missing"`)
	apply(t, namespace, mcpServer("web", "registry.example/server:1"))
	said.eventually(t, health.HealthStatusHealthy, "1 of 1 pods are ready")
	want := []health.HealthStatusCode{
		health.HealthStatusProgressing, health.HealthStatusHealthy, // created
		health.HealthStatusProgressing, health.HealthStatusDegraded, // changed to an invalid spec
		health.HealthStatusProgressing, health.HealthStatusHealthy, // corrected
	}
	if got := said.inOrder(); !slices.Equal(got, want) {
		t.Errorf("Argo CD reports %v, want %v", got, want)
	}
}

// healthRecord records the health that Argo CD computes for each state of the MCPServer in a namespace.
type healthRecord struct {
	mutex sync.Mutex
	all   []*health.HealthStatus
}

// recordHealth starts to record, with a watch.
func recordHealth(t *testing.T, namespace string) *healthRecord {
	t.Helper()
	healths, record := argoHealths(t), &healthRecord{}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(v1beta1.GroupVersion.WithKind("MCPServerList"))
	events, err := theCluster.Client.Watch(context.Background(), list, client.InNamespace(namespace))
	must(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for event := range events.ResultChan() {
			status := &health.HealthStatus{Status: health.HealthStatusUnknown, Message: fmt.Sprint(event.Object)}
			if object, isObject := event.Object.(*unstructured.Unstructured); isObject {
				status, _ = health.GetResourceHealth(object, healths) // Unknown on an error
			}
			record.mutex.Lock()
			record.all = append(record.all, status)
			record.mutex.Unlock()
		}
	})
	t.Cleanup(func() { events.Stop(); done.Wait() })
	return record
}

// eventually waits until Argo CD reports a health with a message that contains the given words.
func (r *healthRecord) eventually(t *testing.T, status health.HealthStatusCode, words string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s with %q", status, words), func() (string, bool) {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		if len(r.all) == 0 {
			return "nothing", false
		}
		last := r.all[len(r.all)-1]
		return fmt.Sprintf("%s: %s", last.Status, last.Message), last.Status == status && strings.Contains(last.Message, words)
	})
}

// inOrder returns the health statuses in order, with one entry per change.
func (r *healthRecord) inOrder() []health.HealthStatusCode {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var codes []health.HealthStatusCode
	for _, status := range r.all {
		codes = append(codes, status.Status)
	}
	return slices.Compact(codes)
}
