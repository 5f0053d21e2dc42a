package main

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
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
