package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestTheTableOfMetricsIsComplete verifies that docs/sessions.md has each metric that the runner registers, with its labels, its type and its unit.
func TestTheTableOfMetricsIsComplete(t *testing.T) {
	content, err := os.ReadFile("../docs/sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(mcp_runner_[a-z_]+)` \\| (.*?) \\| (.*?) \\|(.*?)\\|.*$").FindAllStringSubmatch(string(content), -1) {
		var labels []string
		for _, label := range quoted.FindAllStringSubmatch(row[4], -1) {
			labels = append(labels, label[1])
		}
		documented[row[1]] = append([]string{row[2], row[3]}, labels...)
	}
	described := regexp.MustCompile(`fqName: "(.*?)".*variableLabels: \{(.*?)\}`)
	descriptions := make(chan *prometheus.Desc, 1000)
	startPodOf(t, &podSet{}, "", "--service=web").metrics.Registry.Describe(descriptions)
	close(descriptions)
	for description := range descriptions {
		found := described.FindStringSubmatch(description.String())
		name, labels := found[1], strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' })
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		row, isDocumented := documented[name]
		if !isDocumented {
			t.Errorf("%s is not in docs/sessions.md", name)
			continue
		}
		delete(documented, name)
		if kind := kindOf(name); row[0] != kind || (kind == "histogram") != (row[1] == "seconds") || row[1] == "" {
			t.Errorf("%s is documented as a %s of %s, and is a %s", name, row[0], row[1], kind)
		}
		if !slices.Equal(row[2:], labels) {
			t.Errorf("%s has the labels %q, and %q in docs/sessions.md", name, labels, row[2:])
		}
	}
	for name := range documented {
		t.Errorf("docs/sessions.md has %s, which the runner does not register", name)
	}
}

// kindOf returns the type of a metric by the conventions for its name.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_seconds"):
		return "histogram"
	default:
		return "gauge"
	}
}
