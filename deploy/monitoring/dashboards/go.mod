// The generator of the Grafana dashboards. A module of its own, because the operator does not need Grafana's library.
module mcpserver-operator/deploy/monitoring/dashboards

go 1.26.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
