package main

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// TestResumeNeverMovesTheNumber: 5 pods run.
func TestResumeNeverMovesTheNumber(t *testing.T) {
	kubectl := map[string][]formerOwner{"replicas": {{Manager: "kubectl", Operation: "Apply"}}, "backendReplicas": {{Manager: "flux", Operation: "Apply"}}}
	for name, test := range map[string]struct {
		before held
		want   string // replicas backendReplicas policy
		note   string
	}{
		"nothing was declared":             {held{}, "<nil> <nil> <nil>", ""},
		"the same number":                  {held{Replicas: ptr.To[int32](5), Owners: kubectl}, "5 <nil> <nil>", ""},
		"another number":                   {held{Replicas: ptr.To[int32](3), Owners: kubectl}, "5 <nil> <nil>", `It stays 5, so that the number does not change. The next apply of "kubectl"`},
		"the other name of the field":      {held{BackendReplicas: ptr.To[int32](3), Owners: kubectl}, "<nil> 5 <nil>", `The next apply of "flux"`},
		"both names":                       {held{Replicas: ptr.To[int32](3), BackendReplicas: ptr.To[int32](3)}, "5 5 <nil>", "spec.replicas was 3"},
		"a number that was scaled away":    {held{Replicas: ptr.To[int32](3), Yielded: true, Owners: kubectl}, "<nil> <nil> <nil>", "spec.replicas was 3, but another client had scaled the server since"},
		"a policy":                         {held{Policy: v1beta1.ReplicasConflictYield}, "<nil> <nil> Yield", ""},
		"a declared 0, while 5 pods run":   {held{Replicas: ptr.To[int32](0)}, "5 <nil> <nil>", "spec.replicas was 0 before"},
		"a number without a known manager": {held{Replicas: ptr.To[int32](3)}, "5 <nil> <nil>", "so that the number does not change."},
	} {
		spec, notes := test.before.resumed(5)
		got := fmt.Sprint(spec["replicas"], " ", spec["backendReplicas"], " ", spec["replicasConflictPolicy"])
		if text := strings.Join(notes, "\n"); got != test.want || !strings.Contains(text, test.note) || (test.note == "" && text != "") {
			t.Errorf("%s: got %s, %q", name, got, notes)
		}
	}
}
