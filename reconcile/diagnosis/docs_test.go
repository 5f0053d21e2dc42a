package diagnosis

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheDocsHaveEveryReason verifies that docs/operations.md explains each reason of a status, and that Reasons lists it.
func TestTheDocsHaveEveryReason(t *testing.T) {
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(docs), "### What is wrong with the pods")
	table, _, _ = strings.Cut(table, "\n#")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, constant := range regexp.MustCompile(`\w+ +Reason += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			found++
			if !slices.Contains(Reasons, Reason(constant[1])) {
				t.Errorf("%s is not in Reasons", constant[1])
			}
			if !regexp.MustCompile(`(?m)^\|[\w, ]*\b` + constant[1] + `\b`).MatchString(table) {
				t.Errorf("docs/operations.md does not explain %s", constant[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("found %d reasons", found)
	}
}
