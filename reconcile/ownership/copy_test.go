package ownership_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThePackageCanBeCopied verifies that the package needs only the two modules that its documentation names.
func TestThePackageCanBeCopied(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(output)) {
		isOther := strings.Contains(strings.Split(name, "/")[0], ".") || strings.HasPrefix(name, "mcpserver-operator/")
		if isOther && !strings.HasPrefix(name, "k8s.io/apimachinery/") && !strings.HasPrefix(name, "sigs.k8s.io/structured-merge-diff/") {
			t.Errorf("it imports %s", name)
		}
	}
}

// TestEveryTrapHasAFact verifies that each row of the table of traps in docs/operator-authors.md names a test that exists.
func TestEveryTrapHasAFact(t *testing.T) {
	page, err := os.ReadFile("../../docs/operator-authors.md")
	if err != nil {
		t.Fatal(err)
	}
	facts := ""
	files, err := filepath.Glob("../../tests/facts/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		facts += string(content)
	}
	_, table, _ := strings.Cut(string(page), "## The traps")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| [^-\n].*$`).FindAllString(table, -1)
	if len(rows) < 10 {
		t.Fatalf("found %d rows", len(rows))
	}
	for _, row := range rows[1:] {
		names := regexp.MustCompile(`Test\w+`).FindAllString(row, -1)
		if len(names) == 0 {
			t.Errorf("no test in: %s", row)
		}
		for _, name := range names {
			if !strings.Contains(facts, "func "+name+"(") {
				t.Errorf("tests/facts has no %s", name)
			}
		}
	}
}
