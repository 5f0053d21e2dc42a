package plan

import (
	"errors"
	"slices"
	"strings"
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

// TestAnUnknownCommand verifies that the pod template of a server whose command is unknown stays as it is, and that the rest of the StatefulSet follows the
// MCPServer. The StatefulSet was made by an operator without a runner.
func TestAnUnknownCommand(t *testing.T) {
	type change = func(*v1beta1.MCPServer, *appsv1.StatefulSet)
	const runner = "registry.example/operator:1"
	cluster := applyconfigs.Cluster{IPFamily: corev1.IPv4Protocol, RunnerImage: runner}
	image := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Spec.Image = "registry.example/server:2"
	}
	declared := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) { server.Spec.Replicas = ptr.To[int32](3) }
	asked := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Annotations = map[string]string{v1beta1.UpdatePodTemplateAnnotation: applyconfigs.TemplateVersion(server, cluster)}
	}
	stranger := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) { set.ManagedFields = set.ManagedFields[:0] }
	for name, row := range map[string]struct {
		changes []change
		action  Action
		lacks   bool // a change of the pod template waits
		update  bool
	}{
		"nothing has changed: no change waits, and the runner comes later": {nil, Keep, false, true},
		"a change of the image waits":                                      {[]change{image}, Keep, true, false},
		"the scale is applied, although a change of the image waits":       {[]change{image, declared}, Apply, true, false},
		"the user asks for the runner":                                     {[]change{asked}, Keep, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := converged(t, func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
				for _, change := range row.changes {
					change(server, set)
				}
			})
			s.Image = observe.Image{Reference: s.Server.Spec.Image, Err: errors.New("registry unavailable")}
			memory := NewMemory()
			for range 2 { // the second time, the result is in the cache
				p := Make(s, scale.Decide(s.ScaleInput()), Settings{Cluster: cluster}, memory)
				step := p.StatefulSet()
				if step.Action != row.action || p.LacksCommand != row.lacks || (p.Update != nil) != row.update {
					t.Fatalf("%s (%v), lacks its command: %t, update %+v", step.Action, step.Err, p.LacksCommand, p.Update)
				}
				want, err := appsv1ac.ExtractStatefulSet(s.Children.StatefulSet, applyconfigs.FieldManager)
				if err != nil {
					t.Fatal(err)
				}
				if got, isSet := step.Want.(*appsv1ac.StatefulSetApplyConfiguration); isSet && *got.Spec.Template.Spec.Containers[0].Image != *want.Spec.Template.Spec.Containers[0].Image {
					t.Errorf("the pod template has image %q", *got.Spec.Template.Spec.Containers[0].Image)
				}
				memory.Remember(s, Results{{Step: *step, Outcome: Nothing}})
			}
		})
	}
	t.Run("what changes the flags of the runner is applied with the same command", func(t *testing.T) {
		server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}, Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
		found := &v1beta1.ImageStatus{Reference: server.Spec.Image, Entrypoint: []string{"/server"}}
		s, err := (&observe.Snapshot{Server: server, Now: metav1.NewTime(start)}).With(appliedIn(t, server, cluster, found))
		if err != nil {
			t.Fatal(err)
		}
		s.Image = observe.Image{Reference: server.Spec.Image, Found: found, Recorded: found}
		for _, row := range []struct {
			audit *v1beta1.Audit
			want  Action
		}{{nil, Keep}, {&v1beta1.Audit{Enabled: true}, Apply}} {
			server.Spec.Audit = row.audit
			p := Make(s, scale.Decide(s.ScaleInput()), Settings{Cluster: cluster}, NewMemory())
			if step := p.StatefulSet(); step.Action != row.want || p.LacksCommand || p.Update != nil {
				t.Errorf("audit %+v: %s, %s", row.audit, step.Action, step.Reason)
			}
		}
	})
	t.Run("what the look-up adds was not removed by somebody", func(t *testing.T) {
		server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}, Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
		found := &v1beta1.ImageStatus{Reference: server.Spec.Image, Entrypoint: []string{"/server"}}
		s, err := (&observe.Snapshot{Server: server, Now: metav1.NewTime(start)}).With(appliedIn(t, server, cluster, found))
		if err != nil {
			t.Fatal(err)
		}
		server.Annotations = map[string]string{v1beta1.RestartedAtAnnotation: "2026-11-28T06:00:00Z"} // has no generation
		memory := NewMemory()
		s.Image = observe.Image{Reference: server.Spec.Image, Recorded: found}
		looking := Make(s, scale.Decide(s.ScaleInput()), Settings{Cluster: cluster}, memory)
		memory.Remember(s, Results{{Step: *looking.StatefulSet(), Outcome: Nothing}})
		s.Image.Found = found
		p := Make(s, scale.Decide(s.ScaleInput()), Settings{Cluster: cluster}, memory)
		if step := p.StatefulSet(); !looking.LacksCommand || step.Action != Apply || len(step.Undoes) > 0 {
			t.Errorf("lacks its command: %t, then %s, reverts %+v", looking.LacksCommand, step.Action, step.Undoes)
		}
	})
	t.Run("of another operator: nothing is applied", func(t *testing.T) {
		s := converged(t, stranger)
		s.Image = observe.Image{Reference: s.Server.Spec.Image}
		p := Make(s, scale.Decide(s.ScaleInput()), Settings{Cluster: cluster}, NewMemory())
		if step := p.StatefulSet(); step.Action != Wait || !p.LacksCommand {
			t.Errorf("%s, lacks its command: %t", step.Action, p.LacksCommand)
		}
	})
	t.Run("without a StatefulSet: it waits, and the Services are created", func(t *testing.T) {
		server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}, Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
		fixed, err := applyconfigs.FixedFor(server)
		if err != nil {
			t.Fatal(err)
		}
		s := &observe.Snapshot{Server: server, Fixed: fixed, Image: observe.Image{Reference: server.Spec.Image}}
		p := Make(s, scale.Verdict{}, Settings{Cluster: cluster}, NewMemory())
		if step := p.StatefulSet(); step.Action != Wait || !strings.Contains(step.Reason, "looks up") || !p.LacksCommand {
			t.Errorf("%s: %s", step.Action, step.Reason)
		}
		if !slices.ContainsFunc(p.Steps, func(step Step) bool { return step.Action == Create && step.Kind == observe.KindService }) {
			t.Errorf("no Service is created: %+v", p.Steps)
		}
	})
}
