package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The units of panels, as Grafana names them.
const (
	plain    = "short"
	seconds  = "s"
	bytes    = "bytes"
	perSec   = "ops"
	fraction = "percentunit"
)

// The sizes of panels. A row of a dashboard has 24 columns.
const (
	statSpan, statHeight   = 6, 4
	graphSpan, graphHeight = 12, 8
)

// builder builds a dashboard in the classic model, which every version of Grafana and the sidecar of its chart load. The library prefers the next
// model, which requires Grafana 12.
type builder = dashboard.DashboardBuilder //nolint:staticcheck // deprecated: see above

// newDashboard returns a dashboard with a variable for the data source.
func newDashboard(uid, title, description string) *builder {
	classic := dashboard.NewDashboardBuilder(title) //nolint:staticcheck // deprecated: see builder
	return classic.Uid(uid).Description(description).Tags([]string{"mcpserver"}).
		Time("now-6h", "now").Refresh("1m").Timezone("browser").Readonly().Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
}

// source is the data source that the reader of a dashboard chooses.
func source() common.DataSourceRef {
	kind, uid := "prometheus", "${datasource}"
	return common.DataSourceRef{Type: &kind, Uid: &uid}
}

// choice returns a dashboard variable that lists the values of a label. The user can select one, several, or all of them.
func choice(name, label, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source()).
		Query(dashboard.StringOrMap{String: &query}).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc).Multi(true).IncludeAll(true).AllValue(".*")
}

// query is a query of a panel with the legend of its series.
type query struct{ expr, legend string }

func (q query) target() *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Datasource(source()).Expr(q.expr).LegendFormat(q.legend)
}

// number returns a panel with one number.
func number(title, description, unit, expr string) *stat.PanelBuilder {
	return stat.NewPanelBuilder().Title(title).Description(description).Unit(unit).Datasource(source()).
		Span(statSpan).Height(statHeight).WithTarget(query{expr: expr}.target().Instant())
}

// graph returns a panel with lines over time.
func graph(title, description, unit string, queries ...query) *timeseries.PanelBuilder {
	panel := timeseries.NewPanelBuilder().Title(title).Description(description).Unit(unit).Min(0).Datasource(source()).
		Span(graphSpan).Height(graphHeight)
	for i, one := range queries {
		panel.WithTarget(one.target().RefId(string(rune('A' + i))))
	}
	return panel
}

// list returns a panel with the present series as a table.
func list(title, description, expr string) *table.PanelBuilder {
	return table.NewPanelBuilder().Title(title).Description(description).Datasource(source()).NoValue("none").
		Span(graphSpan).Height(graphHeight).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{"sum"})). // the schema requires a reducer
		WithTarget(query{expr: expr}.target().Instant().Format(prometheus.PromQueryFormatTable))
}
