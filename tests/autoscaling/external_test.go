package autoscaling

import (
	"encoding/json"
	"fmt"
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

// externalMetricsAPI registers the stub. The Service has the type ExternalName because an EndpointSlice must not contain a loopback
// address.
const externalMetricsAPI = `apiVersion: v1
kind: Service
metadata: {name: external-metrics, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost, ports: [{port: %[1]s}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: external-metrics, namespace: kube-system, port: %[1]s}
`

// serveExternalMetrics runs the stub until the test ends. It returns when the API server serves the stub's API. Only one test at a time
// may use it.
func serveExternalMetrics(t *testing.T) *externalMetrics {
	t.Helper()
	metrics := &externalMetrics{}
	endpoint := httptest.NewTLSServer(metrics)
	t.Cleanup(endpoint.Close)
	_, port, err := net.SplitHostPort(endpoint.Listener.Addr().String())
	must(t, err)
	_, err = theCluster.KubectlWithInput(t.Context(), fmt.Sprintf(externalMetricsAPI, port), "apply", "--server-side", "-f", "-")
	must(t, err)
	_, err = theCluster.Kubectl(t.Context(), "wait", "--for=condition=Available", "--timeout=60s", "apiservice/v1beta1.external.metrics.k8s.io")
	must(t, err)
	return metrics
}
