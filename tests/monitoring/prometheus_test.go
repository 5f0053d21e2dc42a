package monitoring

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"mcpserver-operator/tests/cluster"
)

// The jobs, as the Prometheus operator names them: by the Service of a ServiceMonitor, and by the PodMonitor.
const (
	operatorJob = "mcpserver-operator-metrics"
	runnerJob   = cluster.OperatorNamespace + "/mcpserver-runners"
)

// shortened replaces the time for which a condition of an alert must hold.
const shortened = "2s"

// prometheus is a running Prometheus with the rules of deploy/monitoring. It scrapes once per second.
type prometheus struct {
	api prometheusv1.API
	dir string
}

// startPrometheus starts Prometheus. It ends with the test.
func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{dir: t.TempDir()}
	rules := readRules(t)
	for _, group := range rules.Groups {
		for i := range group.Rules {
			group.Rules[i].For = shortened
		}
	}
	rules.write(t, filepath.Join(p.dir, "rules.yaml"))
	token, err := theCluster.ScraperToken(t.Context())
	cluster.Must(t, err)
	cluster.Must(t, os.WriteFile(filepath.Join(p.dir, "token"), []byte(token), 0o600))
	_, ofOperator := readMonitor(t, "service_monitor.yaml")
	_, ofRunner := readMonitor(t, "pod_monitor.yaml")
	writeYAML(t, filepath.Join(p.dir, "prometheus.yaml"), map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{"rules.yaml"},
		"scrape_configs": []any{
			p.job(operatorJob, ofOperator), p.job(runnerJob, ofRunner),
		},
	})
	p.setTargets(t, operatorJob)
	p.setTargets(t, runnerJob)

	address := freeAddress(t)
	log, err := os.Create(filepath.Join(p.dir, "log"))
	cluster.Must(t, err)
	command := exec.Command(programs.prometheus, "--config.file="+filepath.Join(p.dir, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(p.dir, "data"), "--web.listen-address="+address)
	command.Stdout, command.Stderr = log, log
	cluster.Must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // it may have ended, which its log says
		_ = command.Wait()
		cluster.Must(t, log.Close())
		if content, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the log of Prometheus:\n%s", content)
		}
	})
	client, err := api.NewClient(api.Config{Address: "http://" + address})
	cluster.Must(t, err)
	p.api = prometheusv1.NewAPI(client)
	cluster.MustEventually(t, "Prometheus to start", func() (string, bool) {
		_, err := p.api.Buildinfo(t.Context())
		return fmt.Sprint(err), err == nil
	})
	return p
}

// job returns the scrape configuration that the Prometheus operator makes of a monitor, except for how targets are found.
func (p *prometheus) job(name string, of endpoint) map[string]any {
	config := map[string]any{
		"job_name": name, "metrics_path": of.Path, "honor_labels": of.HonorLabels,
		"file_sd_configs": []any{map[string]any{"files": []string{targetsFile(name)}, "refresh_interval": "1s"}},
	}
	if of.Scheme != "" {
		config["scheme"] = of.Scheme
	}
	if of.BearerTokenFile != "" { // the token of the ServiceAccount of Prometheus
		config["authorization"] = map[string]any{"credentials_file": "token"}
	}
	if of.TLSConfig.InsecureSkipVerify {
		config["tls_config"] = map[string]any{"insecure_skip_verify": true}
	}
	var relabelings []any
	for _, one := range of.Relabelings {
		relabelings = append(relabelings, map[string]any{"source_labels": one.SourceLabels, "target_label": one.TargetLabel})
	}
	config["relabel_configs"] = relabelings
	return config
}

// target is a target with the labels that the Prometheus operator gives it.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func targetsFile(job string) string { return "targets-" + strings.ReplaceAll(job, "/", "-") + ".yaml" }

// setTargets replaces the targets of a job. Prometheus must not read half a file.
func (p *prometheus) setTargets(t *testing.T, job string, targets ...target) {
	t.Helper()
	if targets == nil {
		targets = []target{}
	}
	path := filepath.Join(p.dir, targetsFile(job))
	writeYAML(t, path+".new", targets)
	cluster.Must(t, os.Rename(path+".new", path))
}

// scrapeOperator makes the present process of the operator the target.
func (p *prometheus) scrapeOperator(t *testing.T) {
	t.Helper()
	p.setTargets(t, operatorJob, target{[]string{operator.MetricsAddress()}, map[string]string{
		"namespace": cluster.OperatorNamespace, "pod": "mcpserver-operator-0", "service": operatorJob, "container": "manager", "endpoint": "https",
	}})
}

// query returns the result of a query, without values that are no numbers.
func (p *prometheus) query(t *testing.T, expr string) model.Vector {
	t.Helper()
	value, warnings, err := p.api.Query(t.Context(), expr, time.Now())
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%s: %v %v", expr, err, warnings)
	}
	vector, isVector := value.(model.Vector)
	if !isVector {
		t.Fatalf("%s is a %T", expr, value)
	}
	return slices.DeleteFunc(vector, func(s *model.Sample) bool { return math.IsNaN(float64(s.Value)) })
}

// firing returns the alerts that fire. Each entry has the form "NAME NAMESPACE/SERVER REASON". Alerts without these labels leave out the server, the
// reason, or both.
func (p *prometheus) firing(t *testing.T) map[string]bool {
	t.Helper()
	firing := map[string]bool{}
	for _, sample := range p.query(t, `ALERTS{alertstate="firing"}`) {
		firing[describe(sample.Metric)] = true
	}
	return firing
}

func describe(labels model.Metric) string {
	words := []string{string(labels["alertname"])}
	if server := labels["name"] + labels["mcpserver"]; server != "" {
		words = append(words, string(labels["namespace"]+"/"+server))
	}
	if reason := labels["reason"]; reason != "" {
		words = append(words, string(reason))
	}
	return strings.Join(words, " ")
}

// fires waits until alerts fire.
func (p *prometheus) fires(t *testing.T, alerts ...string) {
	t.Helper()
	cluster.Must(t, cluster.EventuallyWithin(t.Context(), time.Minute, "alerts", func(context.Context) (string, bool) {
		firing := p.firing(t)
		missing := slices.DeleteFunc(slices.Clone(alerts), func(alert string) bool { return firing[alert] })
		return fmt.Sprintf("missing %q; firing %q", missing, slices.Sorted(maps.Keys(firing))), len(missing) == 0
	}))
}

// emptyPanels returns the queries of panels that return nothing. A zero that stands for no series does not count.
func (p *prometheus) emptyPanels(t *testing.T) (empty []string) {
	t.Helper()
	variables := strings.NewReplacer("$__rate_interval", "1m", "$namespace", ".*", "$server", ".*", " or vector(0)", "")
	for _, panel := range readPanels(t) {
		if expr := variables.Replace(panel.expr); len(p.query(t, expr)) == 0 {
			empty = append(empty, panel.dashboard+": "+panel.title+": "+panel.expr)
		}
	}
	slices.Sort(empty)
	return empty
}

// freeAddress returns an address at which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	cluster.Must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
