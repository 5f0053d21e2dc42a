package chart

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// helmLabels are the labels that the chart adds to every object to identify the release.
var helmLabels = []string{
	"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart",
}

// TestTheDefaultsAreWhatKubectlInstalls verifies that the chart with default values installs the same objects as kubectl apply -k deploy,
// with the exceptions in this test.
func TestTheDefaultsAreWhatKubectlInstalls(t *testing.T) {
	manifests, err := render(t, theChart(t), "")
	must(t, err)
	helms, kubectls := byName(t, manifests), byName(t, kubectl(t, "kustomize", "deploy"))

	// helm install --create-namespace creates the namespace of a release. A chart cannot own it.
	const namespace = "Namespace /mcpserver-operator-system"
	if kubectls[namespace] == nil {
		t.Fatalf("no %s", namespace)
	}
	delete(kubectls, namespace)
	for _, objects := range []map[string]*unstructured.Unstructured{helms, kubectls} {
		for _, object := range objects {
			remove(object, "labels", helmLabels...)
		}
	}
	// Helm keeps the CRD when it uninstalls the release.
	crd := helms["CustomResourceDefinition /mcpservers.toolhive.stacklok.dev"]
	if crd.GetAnnotations()[kube.ResourcePolicyAnno] != kube.KeepPolicy {
		t.Errorf("uninstalling the release would delete the CRD: %v", crd.GetAnnotations())
	}
	remove(crd, "annotations", kube.ResourcePolicyAnno)
	// The chart runs the operator version of its release. The kustomization runs the latest build.
	for _, objects := range []map[string]*unstructured.Unstructured{helms, kubectls} {
		container := manager(t, objects)
		image := container["image"].(string)
		container["image"], _, _ = strings.Cut(image, ":")
		if args := container["args"].([]any); args[1] != "--runner-image="+image {
			t.Errorf("the runner is not that of image %s: %q", image, args)
		} else {
			args[1] = "--runner-image"
		}
	}

	if difference := cmp.Diff(kubectls, helms); difference != "" {
		t.Errorf("kubectl apply -k deploy (-) and the chart (+) install different objects:\n%s", difference)
	}
}

// TestTheMonitoringIsThatOfTheComponent verifies that the chart installs the alerts, the monitors and the dashboards of deploy/monitoring.
func TestTheMonitoringIsThatOfTheComponent(t *testing.T) {
	manifests, err := render(t, theChart(t), "{monitoring: {enabled: true}}")
	must(t, err)
	helms := byName(t, manifests)
	const monitoring = "../../../deploy/monitoring/"
	for _, file := range []string{"prometheus_rule.yaml", "operator_down_rule.yaml", "service_monitor.yaml", "pod_monitor.yaml"} {
		content, err := os.ReadFile(monitoring + file)
		must(t, err)
		for name, object := range byName(t, string(content)) {
			remove(object, "labels", helmLabels...)
			if helms[name] != nil {
				remove(helms[name], "labels", helmLabels...)
			}
			if difference := cmp.Diff(object, helms[name]); difference != "" {
				t.Errorf("%s (-) and the chart (+) differ:\n%s", file, difference)
			}
		}
	}
	dashboards := map[string]any{}
	for _, name := range []string{"operator.json", "servers.json"} {
		content, err := os.ReadFile(monitoring + "dashboards/" + name)
		must(t, err)
		dashboards[name] = string(content)
	}
	object := helms["ConfigMap mcpserver-operator-system/mcpserver-operator-dashboards"]
	if difference := cmp.Diff(dashboards, at(object.Object, "data")); difference != "" {
		t.Errorf("the component (-) and the chart (+) have different dashboards:\n%s", difference)
	}
}

// TestAFurtherReleaseAlertsWhenItsOperatorIsDown verifies that the alert of each release selects the operator in the namespace of this release, and
// has the name of this namespace in a label.
func TestAFurtherReleaseAlertsWhenItsOperatorIsDown(t *testing.T) {
	manifests, err := render(t, theChart(t), "{shared: {enabled: false}, namespaces: [team-a], monitoring: {enabled: true}}",
		func(install *action.Install) { install.Namespace = "operator-b" })
	must(t, err)
	object := byName(t, manifests)["PrometheusRule operator-b/mcpserver-operator-down"]
	if object == nil {
		t.Fatal("the release has no PrometheusRule mcpserver-operator-down")
	}
	groups := at(object.Object, "spec.groups").([]any)
	rules := at(groups, "0.rules").([]any)
	if len(groups) != 1 || len(rules) != 1 {
		t.Fatalf("the PrometheusRule has more than the alert: %v", groups)
	}
	if expr := at(rules, "0.expr"); expr != `absent(up{job="mcpserver-operator-metrics", namespace="operator-b"} == 1)` {
		t.Errorf("the expression is %s", expr)
	}
	if label := at(rules, "0.labels.namespace"); label != "operator-b" {
		t.Errorf("the label namespace is %s", label)
	}
}

// remove removes keys of the labels or annotations of an object, and removes the field if it becomes empty.
func remove(object *unstructured.Unstructured, field string, names ...string) {
	for _, name := range names {
		unstructured.RemoveNestedField(object.Object, "metadata", field, name)
	}
	if left, _, _ := unstructured.NestedMap(object.Object, "metadata", field); len(left) == 0 {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
}

// manager returns the container of the operator.
func manager(t *testing.T, objects map[string]*unstructured.Unstructured) map[string]any {
	t.Helper()
	containers, _, err := unstructured.NestedFieldNoCopy(
		objects["Deployment mcpserver-operator-system/mcpserver-operator"].Object, "spec", "template", "spec", "containers")
	must(t, err)
	return containers.([]any)[0].(map[string]any)
}

// TestTheChartIsWellFormed verifies that helm lint --strict reports nothing.
func TestTheChartIsWellFormed(t *testing.T) {
	lint := action.NewLint()
	lint.Strict = true
	if result := lint.Run([]string{"../../../deploy/chart"}, nil); len(result.Errors) > 0 {
		t.Errorf("%v: %v", result.Errors, result.Messages)
	}
}

// TestAnOldKubernetesIsRefused verifies that the chart rejects versions of Kubernetes that are not tested.
func TestAnOldKubernetesIsRefused(t *testing.T) {
	if _, err := render(t, theChart(t), "", on(t, "v1.34.9")); err == nil || !strings.Contains(err.Error(), "kubeVersion: >=1.35.0-0") {
		t.Errorf("unexpected result for Kubernetes 1.34: %v", err)
	}
	for _, version := range []string{"v1.35.0", "v1.37.2", "v1.38.0", "v1.35.4-gke.1134000"} {
		if _, err := render(t, theChart(t), "", on(t, version)); err != nil {
			t.Errorf("Kubernetes %s: %v", version, err)
		}
	}
}

// TestAsADependency verifies that the chart installs the same objects when it is a conditional dependency of another chart.
func TestAsADependency(t *testing.T) {
	parent := &chart.Chart{Metadata: &chart.Metadata{
		APIVersion: chart.APIVersionV2, Name: "platform", Version: "1.0.0",
		Dependencies: []*chart.Dependency{{Name: "mcpserver-operator", Version: "*", Condition: "mcpserver-operator.enabled"}},
	}}
	with := func(values string) []string {
		t.Helper()
		parent.SetDependencies(theChart(t))
		manifests, err := render(t, parent, values)
		must(t, err)
		var names []string
		for name := range byName(t, manifests) {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	manifests, err := render(t, theChart(t), "")
	must(t, err)
	if names, alone := with(`{global: {team: a}, mcpserver-operator: {enabled: true}}`), byName(t, manifests); len(names) != len(alone) {
		t.Errorf("as a dependency, the chart installs %v, alone %v", names, alone)
	}
	if names := with(`{mcpserver-operator: {enabled: false}}`); len(names) > 0 {
		t.Errorf("a disabled dependency installs %v", names)
	}
}
