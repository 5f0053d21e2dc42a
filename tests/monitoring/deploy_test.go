package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"mcpserver-operator/tests/cluster"
)

// rule is an alert of a PrometheusRule, as in a file of rules of Prometheus.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// ruleFile is a file of rules of Prometheus, and the spec of a PrometheusRule.
type ruleFile struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	} `json:"groups"`
}

// readRules reads both PrometheusRules.
func readRules(t *testing.T) (all ruleFile) {
	t.Helper()
	for _, file := range []string{"prometheus_rule.yaml", "operator_down_rule.yaml"} {
		var object struct {
			APIVersion, Kind string
			Metadata         map[string]any
			Spec             ruleFile `json:"spec"`
		}
		readDeploy(t, file, &object)
		all.Groups = append(all.Groups, object.Spec.Groups...)
	}
	return all
}

// alerts returns all alerts of the file.
func (f ruleFile) alerts() (all []rule) {
	for _, group := range f.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// write writes the file of rules for Prometheus.
func (f ruleFile) write(t *testing.T, path string) {
	t.Helper()
	writeYAML(t, path, f)
}

// relabeling is a relabeling of a monitor.
type relabeling struct {
	SourceLabels []string `json:"sourceLabels"`
	TargetLabel  string   `json:"targetLabel"`
}

// endpoint is what a ServiceMonitor or a PodMonitor says about scraping.
type endpoint struct {
	Port            string       `json:"port"`
	Path            string       `json:"path"`
	Scheme          string       `json:"scheme"`
	HonorLabels     bool         `json:"honorLabels"`
	BearerTokenFile string       `json:"bearerTokenFile"`
	Relabelings     []relabeling `json:"relabelings"`
	TLSConfig       struct {
		InsecureSkipVerify bool `json:"insecureSkipVerify"`
	} `json:"tlsConfig"`
}

// monitor is a ServiceMonitor or a PodMonitor.
type monitor struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		NamespaceSelector struct {
			Any bool `json:"any"`
		} `json:"namespaceSelector"`
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Endpoints           []endpoint `json:"endpoints"`
		PodMetricsEndpoints []endpoint `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

func readMonitor(t *testing.T, file string) (read monitor, scraped endpoint) {
	t.Helper()
	readDeploy(t, file, &read)
	endpoints := slices.Concat(read.Spec.Endpoints, read.Spec.PodMetricsEndpoints)
	if len(endpoints) != 1 {
		t.Fatalf("%s has %d endpoints", file, len(endpoints))
	}
	return read, endpoints[0]
}

// readDeploy reads a file of deploy/monitoring. It fails on a field that the type does not have.
func readDeploy(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "deploy", "monitoring", file))
	cluster.Must(t, err)
	cluster.Must(t, yaml.UnmarshalStrict(content, into))
}

func writeYAML(t *testing.T, path string, value any) {
	t.Helper()
	content, err := yaml.Marshal(value)
	cluster.Must(t, err)
	cluster.Must(t, os.WriteFile(path, content, 0o600))
}

// panel is a query of a panel of a dashboard.
type panel struct{ dashboard, title, expr string }

// readPanels returns the queries of both dashboards.
func readPanels(t *testing.T) (all []panel) {
	t.Helper()
	for _, name := range []string{"operator", "servers"} {
		content, err := os.ReadFile(filepath.Join(root, "deploy", "monitoring", "dashboards", name+".json"))
		cluster.Must(t, err)
		var dashboard struct {
			Panels []struct {
				Type, Title string
				Targets     []struct{ Expr string }
			}
		}
		cluster.Must(t, json.Unmarshal(content, &dashboard))
		for _, one := range dashboard.Panels {
			if one.Type != "row" && len(one.Targets) == 0 {
				t.Errorf("the panel %q of %s has no query", one.Title, name)
			}
			for _, target := range one.Targets {
				all = append(all, panel{name, one.Title, target.Expr})
			}
		}
	}
	return all
}
