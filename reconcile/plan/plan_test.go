package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// ipv4 contains the settings of most clusters.
var ipv4 = Settings{Cluster: applyconfigs.Cluster{IPFamily: corev1.IPv4Protocol}}

// planOf plans a pass over a snapshot.
func planOf(s *observe.Snapshot, memory *Memory) Plan {
	return Make(s, scale.Decide(s.ScaleInput()), ipv4, memory)
}

// converged returns a snapshot with the StatefulSet as applied, and then the given changes.
func converged(t *testing.T, change func(server *v1beta1.MCPServer, set *appsv1.StatefulSet)) *observe.Snapshot {
	t.Helper()
	server, set := appliedStatefulSet(t)
	set.UID, set.ResourceVersion = "set", "7"
	change(server, set)
	s, err := (&observe.Snapshot{Server: server, Now: metav1.NewTime(start)}).With(set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlanOfTheStatefulSet tests the order and the precedence of the actions on the StatefulSet. Each row is a sentence.
func TestPlanOfTheStatefulSet(t *testing.T) {
	type change = func(*v1beta1.MCPServer, *appsv1.StatefulSet)
	image := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Spec.Image = "registry.example/server:2"
	}
	predecessor := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		set.ManagedFields = append(set.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: "toolhive-container-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "apps/v1",
			FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`),
		})
	}
	lost := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) { set.ManagedFields = nil }
	declared := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) { server.Spec.Replicas = ptr.To[int32](3) }
	ours := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		for i := range set.ManagedFields {
			fields := set.ManagedFields[i].FieldsV1.GetRawString()
			set.ManagedFields[i].FieldsV1 = metav1.NewFieldsV1(strings.Replace(fields, `"f:spec":{`, `"f:spec":{"f:replicas":{},`, 1))
		}
	}
	going := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		set.DeletionTimestamp = ptr.To(metav1.NewTime(start))
	}
	port := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		set.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort++
	}
	onDelete := func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		server.Spec.UpdateStrategy = &appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
		set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{
			Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32)},
		}
	}
	record := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		set.Annotations[v1beta1.DeclaredReplicasAnnotation] = "7"
	}
	invalid := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Spec.PodTemplateSpec = &runtime.RawExtension{Raw: []byte(`{"spec":{"containers":3}}`)}
	}
	for name, row := range map[string]struct {
		changes []change
		action  Action
		confirm bool
	}{
		"nothing has changed: kept":                                               {nil, Keep, false},
		"the image is another: applied":                                           {[]change{image}, Apply, false},
		"a declaration: applied, against a current MCPServer":                     {[]change{declared}, Apply, true},
		"delegated and still ours: released first":                                {[]change{image, ours}, Release, true},
		"owned by another operator: migrated first":                               {[]change{image, ours, predecessor}, Migrate, false},
		"no managedFields: repaired first":                                        {[]change{image, declared, lost}, Repair, false},
		"a port has another number: corrected first":                              {[]change{image, declared, port}, Correct, false},
		"the update strategy becomes OnDelete: the defaults are removed first":    {[]change{image, onDelete}, Correct, false},
		"the annotation records a declaration that does not exist: removed first": {[]change{image, record}, Correct, false},
		"being deleted: waits":                                                    {[]change{image, declared, going}, Wait, false},
		"the MCPServer is invalid: no change":                                     {[]change{invalid, predecessor}, Invalid, false},
		"being deleted, and the MCPServer is invalid: waits":                      {[]change{invalid, going}, Wait, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := converged(t, func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
				for _, change := range row.changes {
					change(server, set)
				}
			})
			p := planOf(s, NewMemory())
			step := p.StatefulSet()
			if step == nil || step.Action != row.action || step.Confirm != row.confirm {
				t.Fatalf("got %+v, wanted %s", step, row.action)
			}
			if step.Reason == "" && step.Err == nil {
				t.Error("a step without a reason")
			}
			if want, isApplied := step.Want.(*appsv1ac.StatefulSetApplyConfiguration); step.Action == Apply &&
				(!isApplied || *want.UID != "set" || *want.ResourceVersion != "7") {
				t.Errorf("the step does not require the version in the snapshot: %+v", want)
			}
			if len(step.Patch) > 0 && fmt.Sprint(step.Patch[0]) != "{test /metadata/resourceVersion 7}" {
				t.Errorf("the patch does not test the version in the snapshot: %v", step.Patch[0])
			}
		})
	}
}

// TestPlanOfForeignAndAbsentChildren verifies that an absent child is created, and that a foreign object is not changed.
func TestPlanOfForeignAndAbsentChildren(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}}
	fixed, err := applyconfigs.FixedFor(server)
	if err != nil {
		t.Fatal(err)
	}
	s := &observe.Snapshot{Server: server, Fixed: fixed, Foreign: []observe.Foreign{
		{Child: observe.Child{Kind: observe.KindService, Name: "mcp-web-proxy"}},
	}}
	planned := func() (steps []string) {
		for _, step := range planOf(s, NewMemory()).Steps {
			steps = append(steps, fmt.Sprintf("%s %s", step.Action, step.Child))
		}
		return steps
	}
	got := planned()
	const want = `[Create ServiceAccount "mcp-web" Create Service "mcp-web-headless" Refuse Service "mcp-web-proxy" Create PodDisruptionBudget "mcp-web" Create StatefulSet "web"]`
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, wanted %s", got, want)
	}
	p := Make(s, scale.Decide(s.ScaleInput()), Settings{}, NewMemory())
	if step := p.StatefulSet(); step.Action != Wait {
		t.Errorf("the StatefulSet must wait until the address of the server is known: %s", step.Action)
	}
	s.Stray = []string{"web-0"}
	p = planOf(s, NewMemory())
	if step := p.StatefulSet(); step.Action != Wait {
		t.Errorf("the StatefulSet must wait for the stray pods: %s", step.Action)
	}
	s.Stray, s.Foreign = nil, []observe.Foreign{{Child: observe.Child{Kind: observe.KindServiceAccount, Name: "mcp-web"}}}
	if got := planned(); !slices.Contains(got, `Wait StatefulSet "web"`) {
		t.Errorf("with a ServiceAccount of another team: got %v", got)
	}
	_, live := appliedStatefulSet(t)
	live.Spec.Template.Spec.ServiceAccountName = "tools"
	s.Children.StatefulSet = live
	if got := planned(); !slices.Contains(got, `Wait StatefulSet "web"`) {
		t.Errorf("with pods that would run as a ServiceAccount of another team: got %v", got)
	}
	s.Children.StatefulSet = nil
	server.Spec.ServiceAccount = ptr.To("tools")
	if got := planned(); !slices.Contains(got, `Create StatefulSet "web"`) {
		t.Errorf("with a ServiceAccount that the MCPServer names: got %v", got)
	}
}

// TestTheAddressFollowsTheService verifies that the server listens on the IP family of the client Service, or on the family with which the
// Service will be created.
func TestTheAddressFollowsTheService(t *testing.T) {
	service := func(families ...corev1.IPFamily) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: families}}
	}
	const v4, v6 = corev1.IPv4Protocol, corev1.IPv6Protocol
	for name, row := range map[string]struct {
		clients, headless *corev1.Service
		declared          []corev1.IPFamily
		cluster           corev1.IPFamily
		want              corev1.IPFamily
	}{
		"that of the cluster, for Services that will be created": {nil, nil, nil, v6, v6},
		"as declared, for Services that will be created":         {nil, nil, []corev1.IPFamily{v6, v4}, v4, v6},
		"that of the Service":                                    {service(v6, v4), service(v4), nil, v4, v6},
		"that of the Service, even if another is declared later": {service(v4), nil, []corev1.IPFamily{v6}, v6, v4},
		"that of the headless Service, if the other is deleted":  {nil, service(v6), nil, v4, v6},
	} {
		m := &maker{Snapshot: &observe.Snapshot{Server: &v1beta1.MCPServer{}}}
		m.Children.ClientService, m.Children.HeadlessService = row.clients, row.headless
		if row.declared != nil {
			m.Server.Spec.Service = &v1beta1.ClientService{IPFamilies: row.declared}
		}
		if got := m.familyOf(applyconfigs.Cluster{IPFamily: row.cluster}).IPFamily; got != row.want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// TestWhatOthersKeepIsToldUntilTheyGiveItUp verifies that the operator reports a field that it has dropped, but that another manager ("backup")
// has also applied, until this manager gives up the field.
func TestWhatOthersKeepIsToldUntilTheyGiveItUp(t *testing.T) {
	backup := metav1.ManagedFieldsEntry{
		Manager: "backup", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "apps/v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"mcp\"}":{".":{},"f:args":{},"f:name":{}}}}}}}`),
	}
	s := converged(t, func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		server.Spec.Args = nil
		set.ManagedFields = append(set.ManagedFields, backup)
	})
	told := func(s *observe.Snapshot, memory *Memory) string {
		p := planOf(s, memory)
		results := Results{{Step: *p.StatefulSet(), Outcome: Written}}
		memory.Remember(s, results)
		var all []string
		s.Server.Status.KeptFields = results.Kept(s.Server.Status.KeptFields)
		for _, kept := range s.Server.Status.KeptFields {
			all = append(all, kept.Name, kept.Manager, fmt.Sprint(kept.Fields))
		}
		return strings.Join(all, " ")
	}
	const kept = `web backup [.spec.template.spec.containers[name="mcp"].args]`
	memory := NewMemory()
	if got := told(s, memory); got != kept {
		t.Errorf("after the apply: %s", got)
	}
	applied := converged(t, func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		server.Spec.Args = nil
		for i := range set.ManagedFields {
			fields := set.ManagedFields[i].FieldsV1.GetRawString()
			set.ManagedFields[i].FieldsV1 = metav1.NewFieldsV1(strings.Replace(fields, `"f:args":{},`, "", 1))
		}
		set.ManagedFields = append(set.ManagedFields, backup)
	})
	if got := told(applied, memory); got != kept {
		t.Errorf("in the next pass: %s", got)
	}
	if got := told(applied, NewMemory()); got != kept {
		t.Errorf("after a restart of the operator: %s", got)
	}
	applied.Children.StatefulSet.ManagedFields = applied.Children.StatefulSet.ManagedFields[:1]
	if got := told(applied, memory); got != "" {
		t.Errorf("after the other manager has given up the field: %s", got)
	}
	if len(memory.Residues.byChild) > 0 {
		t.Error("the residue is still in memory")
	}
}
