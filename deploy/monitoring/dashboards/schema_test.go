package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestThePrometheusOperatorHasEveryField verifies that the objects of the Prometheus operator have no field that its types do not have. The API
// server would drop such a field.
func TestThePrometheusOperatorHasEveryField(t *testing.T) {
	for file, object := range map[string]any{
		"prometheus_rule.yaml":    &monitoringv1.PrometheusRule{},
		"operator_down_rule.yaml": &monitoringv1.PrometheusRule{},
		"service_monitor.yaml":    &monitoringv1.ServiceMonitor{},
		"pod_monitor.yaml":        &monitoringv1.PodMonitor{},
	} {
		if err := yaml.UnmarshalStrict(read(t, filepath.Join("..", file)), object); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestTheDashboardsMeetTheSchemaOfGrafana verifies that the dashboards have all fields that the schema requires, no others, and valid values.
func TestTheDashboardsMeetTheSchemaOfGrafana(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for _, file := range []string{"operator.json", "servers.json"} {
		read, content := dashboard.NewDashboard(), read(t, file)
		for _, err := range []error{read.UnmarshalJSONStrict(content), read.Validate()} {
			if err != nil && err.Error() != "" { // the library also returns an empty list of errors
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}
