package main

import "github.com/grafana/grafana-foundation-sdk/go/dashboard"

// operator returns the dashboard of the operator: does it run, does it keep up, and what does it cost.
func operator() *builder {
	return newDashboard("mcpserver-operator", "MCPServer operator", "Does the operator run, does it keep up, and what does it cost?").
		WithRow(dashboard.NewRowBuilder("State")).
		WithPanel(number("Pods of the operator", "Pods that Prometheus reaches. One of them is the leader.", plain,
			`sum(up{job="mcpserver-operator-metrics"})`)).
		WithPanel(number("MCPServers", "", plain,
			`count(max by (namespace, name) (mcpserver_info))`)).
		WithPanel(number("MCPServers that are not ready", "", plain,
			`count(max by (namespace, name) (mcpserver_condition{condition="Ready"})) or vector(0)`)).
		WithPanel(number("Edits that wait", "Edits that the operator has not processed yet. More than 0 for minutes: it has no leader, or is stuck.", plain,
			`sum(max by (namespace, name) (mcpserver_pending_generations)) or vector(0)`)).
		WithPanel(graph("Problems", "MCPServers with a condition that is not normal.", plain, query{
			`sum by (condition, reason) (max by (namespace, name, condition, reason) (mcpserver_condition))`, "{{condition}}: {{reason}}"})).
		WithPanel(list("Fights over the scale", "The writers that change the scale each time the operator restores it.",
			`max by (namespace, name, writer) (mcpserver_scale_fight)`)).
		WithPanel(graph("Owners of scales", "", plain, query{
			`count by (owner) (max by (namespace, name, owner) (mcpserver_scale_owner))`, "{{owner}}"})).
		WithPanel(graph("Transfers of scales", "", perSec, query{
			`sum by (from, to) (rate(mcpserver_scale_transfers_total[$__rate_interval]))`, "{{from}} to {{to}}"})).
		WithPanel(graph("Versions of the runner", "MCPServers by the image of the runner in their pod template. Without a name: no runner.", plain, query{
			`count by (runner) (max by (namespace, name, runner) (mcpserver_info))`, "{{runner}}"})).
		WithRow(dashboard.NewRowBuilder("Work")).
		WithPanel(graph("Passes", "One pass looks at one MCPServer.", perSec, query{
			`sum by (result) (rate(controller_runtime_reconcile_total{controller="mcpserver"}[$__rate_interval]))`, "{{result}}"})).
		WithPanel(graph("Duration of a pass", "", seconds,
			query{quantile("0.5", `controller_runtime_reconcile_time_seconds_bucket{controller="mcpserver"}`), "median"},
			query{quantile("0.99", `controller_runtime_reconcile_time_seconds_bucket{controller="mcpserver"}`), "99th percentile"})).
		WithPanel(graph("Queue", "MCPServers that wait for a pass.", plain, query{
			`sum(workqueue_depth{name="mcpserver"})`, "waiting"})).
		WithPanel(graph("Applies of children", "A conflict is retried at once.", perSec, query{
			`sum by (kind, result) (rate(mcpserver_applies_total[$__rate_interval]))`, "{{kind}} {{result}}"})).
		WithPanel(graph("Requests to the API server", "", perSec, query{
			`sum by (method, code) (rate(rest_client_requests_total{job="mcpserver-operator-metrics"}[$__rate_interval]))`, "{{method}} {{code}}"})).
		WithRow(dashboard.NewRowBuilder("Cost")).
		WithPanel(graph("Memory", "", bytes, query{
			`process_resident_memory_bytes{job="mcpserver-operator-metrics"}`, "{{pod}}"})).
		WithPanel(graph("CPU", "Cores.", plain, query{
			`rate(process_cpu_seconds_total{job="mcpserver-operator-metrics"}[$__rate_interval])`, "{{pod}}"}))
}

// quantile returns the query for a quantile of a histogram.
func quantile(of, buckets string) string {
	return "histogram_quantile(" + of + ", sum by (le) (rate(" + buckets + "[$__rate_interval])))"
}
