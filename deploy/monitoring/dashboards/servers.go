package main

import "github.com/grafana/grafana-foundation-sdk/go/dashboard"

// The selectors of the chosen MCPServers, in the metrics of the operator and in those of the runners.
const (
	chosen = `{namespace=~"$namespace", name=~"$server"}`
	runner = `namespace=~"$namespace", mcpserver=~"$server"`
)

// servers returns the dashboard of MCPServers: are they ready, who calls them, and how do they answer.
func servers() *builder {
	rate := func(metric string) string { return "rate(" + metric + "{" + runner + "}[$__rate_interval])" }
	return newDashboard("mcpservers", "MCPServers", "Are MCPServers ready, who calls them, and how do they answer?").
		WithVariable(choice("namespace", "Namespace", "label_values(mcpserver_info, namespace)")).
		WithVariable(choice("server", "MCPServer", `label_values(mcpserver_info{namespace=~"$namespace"}, name)`)).
		WithRow(dashboard.NewRowBuilder("State")).
		WithPanel(number("Ready pods", "", plain, `sum(max by (namespace, name) (mcpserver_replicas_ready`+chosen+`))`)).
		WithPanel(number("Pods that are asked for", "The sum of the scales.", plain, `sum(max by (namespace, name) (mcpserver_replicas_asked`+chosen+`))`)).
		WithPanel(number("Sessions", "", plain, `sum(mcp_runner_sessions{`+runner+`})`)).
		WithPanel(number("Requests per second", "", perSec, `sum(`+rate("mcp_runner_requests_total")+`)`)).
		WithPanel(graph("Pods", "Declared by the MCPServer, asked for by the StatefulSet, and ready.", plain,
			query{`max by (namespace, name) (mcpserver_replicas_declared` + chosen + `)`, "{{namespace}}/{{name}} declared"},
			query{`max by (namespace, name) (mcpserver_replicas_asked` + chosen + `)`, "{{namespace}}/{{name}} asked"},
			query{`max by (namespace, name) (mcpserver_replicas_ready` + chosen + `)`, "{{namespace}}/{{name}} ready"})).
		WithPanel(list("Problems", "The conditions that are not normal.",
			`max by (namespace, name, condition, reason) (mcpserver_condition`+chosen+`)`)).
		WithPanel(list("Owner of the scale", "",
			`max by (namespace, name, owner) (mcpserver_scale_owner`+chosen+`)`)).
		WithPanel(list("Runner", "The transport, and the image of the runner in the pod template.",
			`max by (namespace, name, transport, policy, runner) (mcpserver_info`+chosen+`)`)).
		WithRow(dashboard.NewRowBuilder("Sessions")).
		WithPanel(graph("Sessions", "Sessions of each pod.", plain, query{
			`sum by (namespace, pod) (mcp_runner_sessions{` + runner + `})`, "{{namespace}}/{{pod}}"})).
		WithPanel(graph("Sessions refused, and opened again", "Refused: the pod is full. Opened again: the process or the pod of the session was lost.", perSec,
			query{`sum by (namespace, mcpserver) (` + rate("mcp_runner_sessions_refused_total") + `)`, "{{namespace}}/{{mcpserver}} refused"},
			query{`sum by (namespace, mcpserver) (` + rate("mcp_runner_sessions_recreated_total") + `)`, "{{namespace}}/{{mcpserver}} opened again"})).
		WithPanel(graph("Processes started", "Of stdio servers, by reason.", perSec, query{
			`sum by (namespace, mcpserver, reason) (` + rate("mcp_runner_processes_started_total") + `)`, "{{namespace}}/{{mcpserver}} {{reason}}"})).
		WithPanel(graph("Forwarded requests", "Requests that another pod has answered, because it has the session, and requests that got no answer.", perSec,
			query{`sum by (namespace, mcpserver) (` + rate("mcp_runner_forwarded_total") + `)`, "{{namespace}}/{{mcpserver}} forwarded"},
			query{`sum by (namespace, mcpserver) (` + rate("mcp_runner_forward_failures_total") + `)`, "{{namespace}}/{{mcpserver}} failed"})).
		WithRow(dashboard.NewRowBuilder("Requests")).
		WithPanel(graph("Requests by method", "", perSec, query{
			`sum by (method) (` + rate("mcp_runner_requests_total") + `)`, "{{method}}"})).
		WithPanel(graph("Requests by status", "", perSec, query{
			`sum by (code) (` + rate("mcp_runner_requests_total") + `)`, "{{code}}"})).
		WithPanel(graph("Share of failed requests", "With a status of 500 or above.", fraction, query{
			`sum by (namespace, mcpserver) (rate(mcp_runner_requests_total{` + runner + `, code=~"5.."}[$__rate_interval])) / ` +
				`sum by (namespace, mcpserver) (` + rate("mcp_runner_requests_total") + `)`, "{{namespace}}/{{mcpserver}}"})).
		WithPanel(graph("Duration of tool calls", "Until the end of the response.", seconds,
			query{quantile("0.5", `mcp_runner_request_duration_seconds_bucket{`+runner+`, method="tools/call"}`), "median"},
			query{quantile("0.99", `mcp_runner_request_duration_seconds_bucket{`+runner+`, method="tools/call"}`), "99th percentile"})).
		WithRow(dashboard.NewRowBuilder("Pods")).
		WithPanel(graph("Skipped lines", "Lines of stdio servers that are no messages, for example logs on standard output.", perSec, query{
			`sum by (namespace, mcpserver) (` + rate("mcp_runner_skipped_lines_total") + `)`, "{{namespace}}/{{mcpserver}}"})).
		WithPanel(graph("Memory of the runner", "Without the server.", bytes, query{
			`process_resident_memory_bytes{` + runner + `}`, "{{namespace}}/{{pod}}"}))
}
