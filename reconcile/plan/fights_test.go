package plan

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestADecisionDoesNotWaitForAFight verifies that a fight delays neither a decision about the scale nor a change of the MCPServer.
func TestADecisionDoesNotWaitForAFight(t *testing.T) {
	set, service := &appsv1.StatefulSet{}, &corev1.Service{}
	set.UID, service.UID = "set", "service"
	by := []Change{{Manager: "meddler", Fields: []string{".spec"}}}
	memory := NewMemory()
	for range scale.FightAfter {
		memory.Fights.count(&v1beta1.MCPServer{}, set, by, metav1.NewTime(start))
		memory.Fights.count(&v1beta1.MCPServer{}, service, by, metav1.NewTime(start))
	}
	for _, row := range []struct {
		kind       string
		live       client.Object
		verdict    scale.Action
		generation int64
		waits      bool
	}{
		{observe.KindStatefulSet, set, scale.Declare, 0, false},
		{observe.KindStatefulSet, set, scale.Keep, 0, true},
		{observe.KindStatefulSet, set, scale.Keep, 1, false},
		{observe.KindService, service, scale.Declare, 0, true},
	} {
		m := &maker{
			Snapshot: &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start)},
			verdict:  scale.Verdict{Action: row.verdict}, memory: memory,
		}
		m.Server.Generation = row.generation // the fight was in generation 0
		step, waits := m.backOff(Step{Child: observe.Child{Kind: row.kind}, Live: row.live, Undoes: by}, "a fight")
		if waits != row.waits || (step.Action == BackOff) != row.waits {
			t.Errorf("a %s in generation %d while the verdict is %s: waits %t", row.kind, row.generation, row.verdict, waits)
		}
	}
}

// TestWritersOfAFieldByTurnsAreAFight verifies that take-backs from different writers count together.
func TestWritersOfAFieldByTurnsAreAFight(t *testing.T) {
	set := &appsv1.StatefulSet{}
	var fights Fights
	for _, manager := range []string{"a", "b, c", "a"} {
		fights.count(&v1beta1.MCPServer{}, set, []Change{{Manager: manager, Fields: []string{".spec"}}}, metav1.NewTime(start))
	}
	until, writers := fights.next(&v1beta1.MCPServer{}, set, start)
	if until.IsZero() || !slices.Equal(writers, []string{"a", "b_ c"}) {
		t.Errorf("three take-backs within a minute from two writers: waits until %s, for %q", until, writers)
	}
}

// TestAnApplyThatDoesNotLastIsAFight verifies that the operator does not apply the same configuration for ever if a webhook rewrites a field with
// a new value each time. The operator owns the field, so that managedFields name no other writer.
func TestAnApplyThatDoesNotLastIsAFight(t *testing.T) {
	memory := NewMemory()
	rewritten := func(version string) *observe.Snapshot {
		return converged(t, func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
			set.Spec.Template.Spec.Containers[0].Image, set.ResourceVersion = "mirror.example/server:"+version, version
		})
	}
	var actions []Action
	for _, version := range []string{"1", "2", "3", "4", "5"} {
		s := rewritten(version)
		p := planOf(s, memory)
		step := p.StatefulSet()
		actions = append(actions, step.Action)
		outcome := Nothing
		if step.Writes() {
			outcome = Written
		}
		memory.Remember(s, Results{{Step: *step, Outcome: outcome}})
	}
	// The first apply carries out a change of the MCPServer, for all that the operator knows. The next three restore the field.
	if want := []Action{Apply, Apply, Apply, Apply, BackOff}; !slices.Equal(actions, want) {
		t.Errorf("got %v, want %v", actions, want)
	}
}

// TestAnApplyAfterTheChildMatchedIsNoFight verifies that applying the same configuration again counts only if the child did not match in between.
func TestAnApplyAfterTheChildMatchedIsNoFight(t *testing.T) {
	var seen observe.Seen
	server, child := &v1beta1.MCPServer{}, observe.Child{Kind: observe.KindService, Name: "mcp-web-proxy"}
	seen.Applied(server, child, "a", 7)
	if !seen.WasApplied(server, child, "a", 7) || seen.WasApplied(server, child, "a", 8) || seen.WasApplied(server, child, "b", 7) {
		t.Error("another configuration or another child counts, or the same does not")
	}
	seen.AsAskedFor(server, child, "a", 7)
	if seen.WasApplied(server, child, "a", 7) {
		t.Error("it counts although the child has matched")
	}
}
