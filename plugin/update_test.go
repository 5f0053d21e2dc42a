package main

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mcpserver-operator/crd/v1beta1"
)

func setWith(replicas int32, change func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web", Generation: 2}, Spec: appsv1.StatefulSetSpec{Replicas: &replicas}}
	change(set)
	return set
}

func partition(from int32) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) {
		set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(from)}
	}
}

// TestRestartingPods: an update names the pods that restart in the order in which they do.
func TestRestartingPods(t *testing.T) {
	for name, test := range map[string]struct {
		set      *appsv1.StatefulSet
		want     string
		onDelete bool
	}{
		"all, the highest ordinal first": {setWith(3, func(*appsv1.StatefulSet) {}), "web-2 web-1 web-0", false},
		"none":                           {setWith(0, func(*appsv1.StatefulSet) {}), "", false},
		"from a partition":               {setWith(3, partition(2)), "web-2", false},
		"below the partition":            {setWith(3, partition(3)), "", false},
		"from another first ordinal": {setWith(2, func(set *appsv1.StatefulSet) {
			set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5}
		}), "web-6 web-5", false},
		"when they are deleted": {setWith(1, func(set *appsv1.StatefulSet) {
			set.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
		}), "web-0", true},
	} {
		if got, onDelete := restartingPods(test.set); strings.Join(got, " ") != test.want || onDelete != test.onDelete {
			t.Errorf("%s: got %q, on delete %t", name, got, onDelete)
		}
	}
}

// TestARolloutHasEnded: when all pods that it replaces are updated, and all are ready, as the controller has observed.
func TestARolloutHasEnded(t *testing.T) {
	for name, test := range map[string]struct {
		partition int32
		status    appsv1.StatefulSetStatus
		want      bool
	}{
		"of an earlier generation": {0, appsv1.StatefulSetStatus{ObservedGeneration: 1, UpdatedReplicas: 3, ReadyReplicas: 3}, false},
		"with an old pod":          {0, appsv1.StatefulSetStatus{ObservedGeneration: 2, UpdatedReplicas: 2, ReadyReplicas: 3}, false},
		"with a pod not ready":     {0, appsv1.StatefulSetStatus{ObservedGeneration: 2, UpdatedReplicas: 3, ReadyReplicas: 2}, false},
		"with a partition":         {1, appsv1.StatefulSetStatus{ObservedGeneration: 2, UpdatedReplicas: 2, ReadyReplicas: 3}, true},
		"of all pods":              {0, appsv1.StatefulSetStatus{ObservedGeneration: 2, UpdatedReplicas: 3, ReadyReplicas: 3}, true},
	} {
		set := setWith(3, partition(test.partition))
		set.Status = test.status
		if got := isRolledOut(set); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestManyPodsAreNamedInAFewWords(t *testing.T) {
	pods, _ := restartingPods(setWith(100, func(*appsv1.StatefulSet) {}))
	if got := podsText(pods); got != "web-99 to web-0, 100 pods" || podsText(slices.Clone(pods[:2])) != "web-99, web-98" {
		t.Errorf("got %s", got)
	}
}

// TestWhatAnUpdateSays: what restarts, and why, is said before it does.
func TestWhatAnUpdateSays(t *testing.T) {
	available := update{Server: "team/web", From: "2-abc", To: "3-def", Pods: []string{"web-0"}, Fields: []string{".spec.template.x"}}
	for name, test := range map[string]struct {
		change func(*update)
		dryRun bool
		want   string
	}{
		"nothing": {func(u *update) { u.To = "" }, false, "MCPServer team/web: no update is available.\n"},
		"a dry run": {func(*update) {}, true, "MCPServer team/web: would be updated from pod template 2-abc to 3-def.\n" +
			"  Pods restart, in a rolling update: web-0\n  Because of:\n    .spec.template.x\n"},
		"no pods": {func(u *update) { u.Pods = nil }, false, "MCPServer team/web: update from pod template 2-abc to 3-def.\n" +
			"  No pod restarts.\n  Because of:\n    .spec.template.x\n"},
		"another operator": {func(u *update) { u.Fields, u.Message = nil, "the pods run revision 2" }, false,
			"MCPServer team/web: update from pod template 2-abc to 3-def.\n  Pods restart, in a rolling update: web-0\n  Why: the pods run revision 2\n"},
		"OnDelete": {func(u *update) { u.OnDelete = true }, false, "MCPServer team/web: update from pod template 2-abc to 3-def.\n" +
			"  A pod gets the pod template when you delete it (updateStrategy OnDelete): web-0\n  Because of:\n    .spec.template.x\n"},
		"suspended": {func(u *update) { u.Suspended = true }, false, "MCPServer team/web: not updated, because it is suspended. Update it when it is resumed.\n"},
	} {
		one := available
		test.change(&one)
		if got := updatesText([]*update{&one}, updateOptions{dryRun: test.dryRun}); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestTheUpdateOfASuspendedMCPServer: the status of a suspended MCPServer does not name its update, and its StatefulSet does.
func TestTheUpdateOfASuspendedMCPServer(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "team"}, Spec: v1beta1.MCPServerSpec{Suspend: true}}
	set := setWith(1, func(set *appsv1.StatefulSet) { set.Namespace = "team" })
	offers := set.DeepCopy()
	offers.Annotations = map[string]string{v1beta1.PodTemplateAnnotation: "2:a:b", v1beta1.PodTemplateUpdateAnnotation: "3:c:b"}
	for name, test := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"no StatefulSet": {nil, ""},
		"no update":      {[]client.Object{set}, ""},
		"an update":      {[]client.Object{offers}, "3"},
	} {
		c := &connection{WithWatch: fake.NewClientBuilder().WithObjects(test.objects...).Build()}
		got, err := c.updateOf(t.Context(), server, true)
		if err != nil || got.To != test.want || !got.Suspended || got.Fields != nil {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}
