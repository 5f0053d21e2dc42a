// Command dashboards generates the Grafana dashboards operator.json and servers.json in the working directory.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	for file, builder := range map[string]*dashboard.DashboardBuilder{"operator.json": operator(), "servers.json": servers()} {
		if err := write(file, builder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func write(file string, builder *dashboard.DashboardBuilder) error {
	built, err := builder.Build()
	if err != nil {
		return fmt.Errorf("building %s: %w", file, err)
	}
	content, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", file, err)
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}
