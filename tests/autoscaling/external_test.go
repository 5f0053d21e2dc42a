package autoscaling

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// waitingCalls is the only metric that externalMetrics serves.
const waitingCalls = "waiting_calls"

// externalMetrics is a stub of an adapter for external metrics, such as the adapters of KEDA and prometheus-adapter. It is an API server
// for external.metrics.k8s.io. It serves one metric in every namespace, and the test sets the value. The aggregation layer, which finds
// the stub through its APIService, and the controller of HorizontalPodAutoscalers, which queries it, are real.
//
// The stub uses net/http, because the controller only sends two kinds of GET requests. The library for real adapters,
// sigs.k8s.io/custom-metrics-apiserver, would add k8s.io/apiserver to the operator's go.mod for authentication and an OpenAPI document.
// The tests need neither. The stub answers every client on the loopback interface.
type externalMetrics struct {
	value atomic.Int64
	asked atomic.Int64
}

// set changes the value of the metric. The controller of HorizontalPodAutoscalers reads it every 2 s.
func (m *externalMetrics) set(value int64) { m.value.Store(value) }

const externalMetricsPath = "/apis/external.metrics.k8s.io/v1beta1"

func (m *externalMetrics) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var answer any
	name, isMetric := "", false
	if rest, below := strings.CutPrefix(request.URL.Path, externalMetricsPath+"/namespaces/"); below {
		_, name, isMetric = strings.Cut(rest, "/")
	}
	switch {
	case request.URL.Path == externalMetricsPath: // discovery: the aggregation layer uses it to check the APIService
		answer = metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "external.metrics.k8s.io/v1beta1",
			APIResources: []metav1.APIResource{{Name: waitingCalls, Namespaced: true, Kind: "ExternalMetricValueList", Verbs: metav1.Verbs{"get"}}},
		}
	case isMetric && name == waitingCalls:
		m.asked.Add(1)
		answer = map[string]any{
			"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": map[string]any{},
			"items": []any{map[string]any{
				"metricName": waitingCalls, "metricLabels": map[string]string{},
				"timestamp": metav1.Now(), "value": strconv.FormatInt(m.value.Load(), 10),
			}},
		}
	default:
		http.NotFound(w, request)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // an error means that the client has disconnected
}

// serveMetrics serves the API kind.metrics.k8s.io by a stub until the test ends. It returns when the API server serves the API. Only one test at
// a time may use a kind.
func serveMetrics(t *testing.T, kind, version string, stub http.Handler) {
	t.Helper()
	endpoint := httptest.NewTLSServer(stub)
	t.Cleanup(endpoint.Close)
	_, port, err := net.SplitHostPort(endpoint.Listener.Addr().String())
	must(t, err)
	must(t, theCluster.RegisterMetricsAPI(t.Context(), kind, version, port))
}

// serveExternalMetrics serves a stub of an adapter for external metrics.
func serveExternalMetrics(t *testing.T) *externalMetrics {
	t.Helper()
	metrics := &externalMetrics{}
	serveMetrics(t, "external", "v1beta1", metrics)
	return metrics
}
