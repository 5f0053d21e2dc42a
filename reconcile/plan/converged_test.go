package plan

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

var webSet = observe.Child{Kind: observe.KindStatefulSet, Name: "web"}

// TestAChildIsLookedAtAgainWhenItChanges verifies that a child is compared again only if the child, its apply configuration or the MCPServer
// has changed.
func TestAChildIsLookedAtAgainWhenItChanges(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	live := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "1", ResourceVersion: "5"}}
	digest := func(minReadySeconds int32) uint64 {
		asked, err := digestOf(appsv1ac.StatefulSet("web", "default").
			WithSpec(appsv1ac.StatefulSetSpec().WithMinReadySeconds(minReadySeconds)))
		if err != nil {
			t.Fatal(err)
		}
		return asked
	}
	var converged Converged
	converged.remember(server, webSet, live, digest(1))
	if !converged.isStill(server, webSet, live, digest(1)) {
		t.Error("compared again without a change")
	}
	if converged.isStill(server, webSet, live, digest(2)) {
		t.Error("not compared again after a change of the apply configuration")
	}
	changed := live.DeepCopy()
	changed.ResourceVersion = "6"
	if converged.isStill(server, webSet, changed, digest(1)) {
		t.Error("not compared again after a change of the child")
	}
	another := server.DeepCopy()
	another.UID = "another"
	if converged.isStill(another, webSet, live, digest(1)) {
		t.Error("not compared again for a new MCPServer of the same name")
	}
}

// TestWhatTheAPIServerDropsIsNotAppliedAgain verifies that the operator does not apply a child again if the last apply changed nothing. Such a
// child does not count as matching, so the dropped fields are not reported as removed.
func TestWhatTheAPIServerDropsIsNotAppliedAgain(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	live := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "1", ResourceVersion: "5"}}
	snapshot, memory := &observe.Snapshot{Server: server}, NewMemory()
	step := Step{Child: webSet, Action: Apply, Live: live, digest: 7, content: 7}

	memory.Remember(snapshot, Results{{Step: step, Outcome: Unchanged}})
	if !memory.Converged.isStill(server, webSet, live, 7) {
		t.Error("applied again without a change")
	}
	step.Action = Keep
	memory.Remember(snapshot, Results{{Step: step, Outcome: Nothing}})
	if memory.Seen.WasAsAskedFor(server, webSet, live.UID, 7) {
		t.Error("a child without the dropped fields is recorded as matching")
	}
	live.ResourceVersion = "6" // a new status
	if !memory.Converged.isStill(server, webSet, live, 7) {
		t.Error("applied again after a new status")
	}
	live.Generation = 2
	if memory.Converged.isStill(server, webSet, live, 7) {
		t.Error("not looked at again after a change of the spec")
	}
	live.Generation = 0
	live.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "meddler", Operation: metav1.ManagedFieldsOperationUpdate}}
	if memory.Converged.isStill(server, webSet, live, 7) {
		t.Error("not looked at again after a write of metadata")
	}
	memory.Remember(snapshot, Results{{Step: step, Outcome: Nothing}})
	if !memory.Seen.WasAsAskedFor(server, webSet, live.UID, 7) {
		t.Error("a matching child is not recorded")
	}
}

// TestAStatefulSetIsBuiltAnewWhenItsInputsChange verifies that the apply configuration is rebuilt only if its inputs change, because this is
// most of the cost of a pass.
func TestAStatefulSetIsBuiltAnewWhenItsInputsChange(t *testing.T) {
	image := func(s *observe.Snapshot) { s.Server.Spec.Image = "registry.example/server:2" }
	for name, row := range map[string]struct {
		change   func(*observe.Snapshot)
		settings Settings
		want     Action
	}{
		"no change": {func(*observe.Snapshot) {}, ipv4, Keep},
		// The API server increments the generation at each change of a spec.
		"the image without a new generation": {image, ipv4, Keep},
		"another generation":                 {func(s *observe.Snapshot) { image(s); s.Server.Generation++ }, ipv4, Apply},
		"another annotation": {func(s *observe.Snapshot) {
			image(s)
			s.Server.Annotations = map[string]string{"a": "b"}
		}, ipv4, Apply},
		"another label": {func(s *observe.Snapshot) { image(s); s.Server.Labels = map[string]string{"a": "b"} }, ipv4, Apply},
		"another version of the StatefulSet": {func(s *observe.Snapshot) {
			image(s)
			s.Children.StatefulSet.ResourceVersion = "8"
		}, ipv4, Apply},
		"another StatefulSet":            {func(s *observe.Snapshot) { image(s); s.Children.StatefulSet.UID = "other" }, ipv4, Apply},
		"another decision":               {func(s *observe.Snapshot) { s.Server.Spec.Replicas = ptr.To[int32](3) }, ipv4, Apply},
		"another MCPServer of this name": {func(s *observe.Snapshot) { image(s); s.Server.UID = "other" }, ipv4, Apply},
		"a cluster that assigns users": {func(*observe.Snapshot) {}, Settings{Cluster: applyconfigs.Cluster{
			IPFamily: corev1.IPv4Protocol, AssignsUsers: true,
		}}, Apply},
	} {
		s, memory := converged(t, func(*v1beta1.MCPServer, *appsv1.StatefulSet) {}), NewMemory()
		initial := planOf(s, memory)
		first := initial.StatefulSet()
		memory.Remember(s, Results{{Step: *first, Outcome: Nothing}})
		row.change(s)
		got := Make(s, scale.Decide(s.ScaleInput()), row.settings, memory)
		if first.Action != Keep || got.StatefulSet().Action != row.want {
			t.Errorf("%s: got %s, then %s (%s); want Keep, then %s", name, first.Action, got.StatefulSet().Action, got.StatefulSet().Reason, row.want)
		}
	}
}
