package status

import (
	"os"
	"regexp"
	"testing"

	"mcpserver-operator/reconcile/diagnosis"
)

// TestEveryReasonIsKnown verifies that metrics show each reason that this package or package diagnosis can set, and no reason of other clients.
func TestEveryReasonIsKnown(t *testing.T) {
	source, err := os.ReadFile("reasons.go")
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`(?m)^\t[rR]eason\w+ += "(\w+)"$`).FindAllStringSubmatch(string(source), -1)
	if len(own) < 20 {
		t.Fatalf("found %d reasons in reasons.go", len(own))
	}
	for _, constant := range own {
		if KnownReason(constant[1]) != constant[1] {
			t.Errorf("%s is not in the list of reasons", constant[1])
		}
	}
	for _, reason := range diagnosis.Reasons {
		if KnownReason(string(reason)) != string(reason) {
			t.Errorf("%s of package diagnosis is not known", reason)
		}
	}
	if got := KnownReason("DrawnAtRandom"); got != "other" {
		t.Errorf("a reason of another client is %q, wanted other", got)
	}
}
