// Command dashboards generates the Grafana dashboards operator.json and servers.json in the working directory.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	for file, one := range map[string]*builder{"operator.json": operator(), "servers.json": servers()} {
		if err := write(file, one); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func write(file string, one *builder) error {
	built, err := one.Build()
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
