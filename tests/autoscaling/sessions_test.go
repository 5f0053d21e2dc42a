package autoscaling

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/runner/metrics"
)

// sessionsMetric is the metric of the runner by which the autoscaler of docs/sessions.md scales.
const sessionsMetric = "mcp_runner_sessions"

// customMetrics is a stub of an adapter for metrics of pods, such as prometheus-adapter: an API server for custom.metrics.k8s.io. The pods of the
// suite are simulated, so no runner runs in them and no Prometheus scrapes them. Instead, the stub spreads a number of sessions over the pods, lets
// the metrics of the runner render them, and reads the metric of each pod from that text. The aggregation layer, the controller of
// HorizontalPodAutoscalers and the operator are real.
type customMetrics struct {
	sessions atomic.Int64
}

const customMetricsPath = "/apis/custom.metrics.k8s.io/v1beta2"

func (m *customMetrics) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var answer any
	namespace, ofPods := "", false
	if rest, below := strings.CutPrefix(request.URL.Path, customMetricsPath+"/namespaces/"); below {
		namespace, ofPods = strings.CutSuffix(rest, "/pods/*/"+sessionsMetric)
	}
	switch {
	case request.URL.Path == customMetricsPath: // discovery
		answer = metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "custom.metrics.k8s.io/v1beta2",
			APIResources: []metav1.APIResource{{Name: "pods/" + sessionsMetric, Namespaced: true, Kind: "MetricValueList", Verbs: metav1.Verbs{"get"}}},
		}
	case ofPods:
		values, err := m.values(request, namespace)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer = map[string]any{"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": map[string]any{}, "items": values}
	default:
		http.NotFound(w, request)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // an error means that the client has disconnected
}

// values returns the metric of each pod that the autoscaler asks for. As the runner does, it gives pods with a low ordinal more sessions.
func (m *customMetrics) values(request *http.Request, namespace string) ([]any, error) {
	selector, err := labels.Parse(request.URL.Query().Get("labelSelector"))
	if err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := theCluster.Client.List(request.Context(), &pods, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, err
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	count, all := int64(len(pods.Items)), m.sessions.Load()
	values := []any{}
	for i := range pods.Items {
		of := all / count
		if int64(i) < all%count {
			of++
		}
		value, err := scraped(of)
		if err != nil {
			return nil, err
		}
		values = append(values, map[string]any{
			"describedObject": map[string]any{"kind": "Pod", "apiVersion": "/v1", "namespace": namespace, "name": pods.Items[i].Name},
			"metric":          map[string]any{"name": sessionsMetric}, "timestamp": metav1.Now(), "value": strconv.FormatInt(value, 10),
		})
	}
	return values, nil
}

// scraped returns the metric that the metrics of a runner with a number of sessions have, read from the text that the runner serves.
func scraped(sessions int64) (int64, error) {
	families, err := metrics.New(func() float64 { return float64(sessions) }).Registry.Gather()
	if err != nil {
		return 0, fmt.Errorf("gathering the metrics: %w", err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			return 0, fmt.Errorf("writing the metrics: %w", err)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		return 0, fmt.Errorf("reading the metrics: %w", err)
	}
	family := parsed[sessionsMetric]
	if family == nil || len(family.GetMetric()) != 1 {
		return 0, fmt.Errorf("the runner has no metric %s", sessionsMetric)
	}
	return int64(family.GetMetric()[0].GetGauge().GetValue()), nil
}

// bySessions returns the manifest in docs/sessions.md: the indented block that begins with an MCPServer with the name of the suite.
func bySessions(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../docs/sessions.md")
	must(t, err)
	_, block, found := strings.Cut(string(content), "\n## Scaling by sessions\n")
	if !found {
		t.Fatal("docs/sessions.md has no section about scaling by sessions")
	}
	var manifest strings.Builder
	for line := range strings.Lines(block) {
		text, isCode := strings.CutPrefix(line, "    ")
		if !isCode && manifest.Len() > 0 {
			break
		}
		if isCode {
			manifest.WriteString(text)
		}
	}
	return strings.NewReplacer("name: web", "name: "+server, "web-server:1", "search:1.0").Replace(manifest.String())
}

// TestAnAutoscalerBySessions: the autoscaler of docs/sessions.md scales by the sessions of each pod, and the operator leaves the scale alone.
func TestAnAutoscalerBySessions(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	stub := &customMetrics{}
	serveMetrics(t, "custom", "v1beta2", stub)
	stub.sessions.Store(30)
	apply(t, namespace, bySessions(t))
	isReady(t, namespace, 1, "1.0")
	recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: server})
	must(t, err)
	mark, err := theCluster.AuditMark()
	must(t, err)

	stub.sessions.Store(240) // 50 for each pod
	isReady(t, namespace, 5, "1.0")
	kubectl(t, namespace, "annotate", "mcpserver/"+server, "example.com/touched=yes")
	stub.sessions.Store(90)
	isReady(t, namespace, 2, "1.0")

	scales, err := recorder.Stop(t.Context())
	must(t, err)
	up := slices.Index(scales, 5)
	if up < 0 || scales[0] != 1 || scales[len(scales)-1] != 2 || !slices.IsSorted(scales[:up+1]) {
		t.Errorf("unexpected sequence of scales %v", scales)
	}
	if writes := scaleWrites(t, mark, namespace, "statefulsets"); writes != len(scales)-1 {
		t.Errorf("the scales were %v, and the autoscaler wrote %d times", scales, writes)
	}
	operatorWritesNoStatefulSet(t, mark, namespace)
	if owner := get(t, namespace, &v1beta1.MCPServer{}).Status.Scale.Owner; owner != "HorizontalPodAutoscaler/"+server {
		t.Errorf("unexpected owner in the status: %s", owner)
	}
}
