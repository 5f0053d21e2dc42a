package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestTheRulesPassTheirUnitTests runs promtool's unit tests beside the rules, which include an hour of health.
func TestTheRulesPassTheirUnitTests(t *testing.T) {
	dir := t.TempDir()
	readRules(t).write(t, filepath.Join(dir, "rules.yaml"))
	tests, err := os.ReadFile(filepath.Join(root, "deploy", "monitoring", "prometheus_rule_test.yaml"))
	cluster.Must(t, err)
	cluster.Must(t, os.WriteFile(filepath.Join(dir, "tests.yaml"), tests, 0o600))
	for _, args := range [][]string{{"check", "rules", "--lint-fatal", "rules.yaml"}, {"test", "rules", "tests.yaml"}} {
		command := exec.Command(programs.promtool, args...)
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, output)
		}
	}
	for _, alert := range readRules(t).alerts() {
		if !strings.Contains(string(tests), `alertname="`+alert.Alert+`"`) {
			t.Errorf("no unit test expects %s", alert.Alert)
		}
	}
}

// TestEachAlertHasASectionOfTheRunbook verifies that an alert says what is wrong, and links to its section, which says what to look at and
// what to do.
func TestEachAlertHasASectionOfTheRunbook(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	cluster.Must(t, err)
	_, runbook, _ := strings.Cut(string(content), "\n## Alerts\n")
	runbook, _, _ = strings.Cut(runbook, "\n## ")
	sections := map[string]string{}
	for _, section := range strings.Split(runbook, "\n### ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	for _, alert := range readRules(t).alerts() {
		section, found := sections[alert.Alert]
		delete(sections, alert.Alert)
		if !found {
			t.Errorf("docs/operations.md has no section %s", alert.Alert)
			continue
		}
		severity := alert.Labels["severity"]
		if !slices.Contains([]string{"critical", "warning"}, severity) || !strings.HasPrefix(strings.TrimSpace(section), strings.ToUpper(severity[:1])+severity[1:]+". ") {
			t.Errorf("the section %s does not begin with the severity %q", alert.Alert, severity)
		}
		if !strings.Contains(section, "Look") || !regexp.MustCompile(`\n(Do|Look and do): |\| what you see \| what to do \|`).MatchString(section) {
			t.Errorf("the section %s does not say what to look at and what to do", alert.Alert)
		}
		if alert.Annotations["summary"] == "" || alert.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", alert.Alert)
		}
		if wanted := "docs/operations.md#" + strings.ToLower(alert.Alert); alert.Annotations["runbook_url"] != wanted {
			t.Errorf("%s links to %q, wanted %q", alert.Alert, alert.Annotations["runbook_url"], wanted)
		}
		minutes := strings.TrimSuffix(alert.For, "m") + " minutes"
		if !strings.Contains(strings.ReplaceAll(section, "\n", " "), minutes) || !strings.Contains(alert.Annotations["description"], minutes) {
			t.Errorf("%s fires after %s, which its section or its description does not say", alert.Alert, minutes)
		}
	}
	for title := range sections {
		t.Errorf("docs/operations.md has a section %s, which is no alert", title)
	}
}

// TestTheMonitorsSelectWhatIsInstalled verifies that the ServiceMonitor selects the Service of the metrics, and that the PodMonitor selects the pods
// that the operator makes and names their port and the label with the name of the MCPServer.
func TestTheMonitorsSelectWhatIsInstalled(t *testing.T) {
	ofOperator, scraped := readMonitor(t, "service_monitor.yaml")
	var service corev1.Service
	readDeploy(t, filepath.Join("..", "manager", "metrics_service.yaml"), &service)
	if service.Name != operatorJob || service.Namespace != ofOperator.Metadata["namespace"] {
		t.Errorf("the job of Service %s/%s is not %s", service.Namespace, service.Name, operatorJob)
	}
	for label, value := range ofOperator.Spec.Selector.MatchLabels {
		if service.Labels[label] != value {
			t.Errorf("the ServiceMonitor does not select the Service: %s is %q", label, service.Labels[label])
		}
	}
	if service.Spec.Ports[0].Name != scraped.Port {
		t.Errorf("the ServiceMonitor scrapes port %s, the Service has %s", scraped.Port, service.Spec.Ports[0].Name)
	}

	ofRunner, scraped := readMonitor(t, "pod_monitor.yaml")
	server := &v1beta1.MCPServer{}
	server.Name, server.Namespace = "web", "team"
	server.Spec = v1beta1.MCPServerSpec{Image: "server", Command: []string{"serve"}}
	set, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, applyconfigs.Fixed{}, applyconfigs.Cluster{RunnerImage: "operator"}, nil)
	cluster.Must(t, err)
	pod := set.Spec.Template
	for label, value := range ofRunner.Spec.Selector.MatchLabels {
		if pod.Labels[label] != value {
			t.Errorf("the PodMonitor does not select the pods: %s is %q", label, pod.Labels[label])
		}
	}
	var ports []string
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			ports = append(ports, *port.Name)
		}
	}
	if !slices.Contains(ports, scraped.Port) {
		t.Errorf("the PodMonitor scrapes port %s, the pods have %q", scraped.Port, ports)
	}
	const label = "app.kubernetes.io/instance"
	meta := "__meta_kubernetes_pod_label_" + regexp.MustCompile(`[^a-z0-9]`).ReplaceAllString(label, "_")
	if len(scraped.Relabelings) != 1 || !slices.Equal(scraped.Relabelings[0].SourceLabels, []string{meta}) ||
		scraped.Relabelings[0].TargetLabel != "mcpserver" || pod.Labels[label] != server.Name {
		t.Errorf("the label mcpserver is not the name of the MCPServer: %v, %v", scraped.Relabelings, pod.Labels)
	}
}
