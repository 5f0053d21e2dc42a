// Package metrics has the Prometheus metrics of the runner and the audit line of a request.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Set are the metrics of a runner.
type Set struct {
	Registry *prometheus.Registry
	// Requests counts HTTP requests by HTTP method, JSON-RPC method and HTTP status. JSON-RPC methods that MCP does not define are "other".
	Requests *prometheus.CounterVec
	// Duration is the time from the arrival of a request to the end of its response, by JSON-RPC method.
	Duration *prometheus.HistogramVec
	// Processes counts the processes of the server that were started, by reason: session, recreated, shared, probe.
	Processes *prometheus.CounterVec
	// Skipped counts lines of the server's standard output that are no JSON-RPC messages, or too long.
	Skipped prometheus.Counter
	// Recreated counts sessions that were recreated because their process or pod was lost.
	Recreated prometheus.Counter
	// Refused counts new sessions that were refused because no pod has room.
	Refused prometheus.Counter
}

// New returns the metrics of a runner, registered. Sessions returns the number of sessions.
func New(sessions func() float64) *Set {
	const namespace = "mcp_runner"
	s := &Set{
		Registry: prometheus.NewRegistry(),
		Requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "requests_total", Help: "HTTP requests, by HTTP method, JSON-RPC method and HTTP status.",
		}, []string{"http_method", "method", "code"}),
		Duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
			Help: "Time from the arrival of a request to the end of its response, by JSON-RPC method.",
		}, []string{"method"}),
		Processes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "processes_started_total", Help: "Processes of the server that were started, by reason.",
		}, []string{"reason"}),
		Skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "skipped_lines_total", Help: "Lines of the server's standard output that are no JSON-RPC messages, or too long.",
		}),
		Recreated: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "sessions_recreated_total", Help: "Sessions that were recreated because their process or pod was lost.",
		}),
		Refused: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "sessions_refused_total", Help: "New sessions that were refused because no pod has room.",
		}),
	}
	s.Registry.MustRegister(
		s.Requests, s.Duration, s.Processes, s.Skipped, s.Recreated, s.Refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "sessions", Help: "Sessions of this pod."}, sessions),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return s
}

// methods are the JSON-RPC methods that MCP defines. A label has no other value, because clients choose the methods.
var methods = map[string]bool{
	"initialize": true, "ping": true, "server/discover": true, "subscriptions/listen": true,
	"tools/list": true, "tools/call": true, "prompts/list": true, "prompts/get": true, "completion/complete": true, "logging/setLevel": true,
	"resources/list": true, "resources/read": true, "resources/templates/list": true, "resources/subscribe": true, "resources/unsubscribe": true,
	"tasks/get": true, "tasks/list": true, "tasks/cancel": true, "tasks/result": true, "tasks/update": true,
	"notifications/initialized": true, "notifications/cancelled": true, "notifications/progress": true, "notifications/roots/list_changed": true,
}

// Method returns the value of the label method for a JSON-RPC method; "none" for a request without one.
func Method(method string) string {
	switch {
	case method == "":
		return "none"
	case methods[method]:
		return method
	default:
		return "other"
	}
}
