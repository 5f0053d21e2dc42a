package reconcile

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// TestAChildIsSettledForOneGeneration: what is new in an MCPServer is not taken for something that was removed.
func TestAChildIsSettledForOneGeneration(t *testing.T) {
	server := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	child := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "1"}}
	changed := server.DeepCopy()
	changed.Generation = 2
	anew := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "2"}}
	another := server.DeepCopy()
	another.UID = "another"

	var settled settledChildren
	if settled.wasEver(server, child) {
		t.Error("settled before it was seen")
	}
	settled.remember(server, child, 7)
	if !settled.wasEver(server, child) {
		t.Error("not settled after it was seen")
	}
	if settled.wasEver(changed, child) {
		t.Error("settled for another generation")
	}
	if settled.wasEver(server, anew) {
		t.Error("settled for a child that was created anew")
	}
	if settled.wasEver(another, child) {
		t.Error("settled for another MCPServer of the name, to which the child was given")
	}
	settled.forget(client.ObjectKeyFromObject(server))
	if settled.wasEver(server, child) {
		t.Error("settled for an MCPServer that is gone")
	}
}

// TestAChildIsLookedAtAgainWhenItChanges: or when something else is asked for.
func TestAChildIsLookedAtAgainWhenItChanges(t *testing.T) {
	server := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	child := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "1", ResourceVersion: "5"}}
	digest := func(minReadySeconds int32) uint64 {
		asked, err := digestOf(appsv1ac.StatefulSet("web", "default").
			WithSpec(appsv1ac.StatefulSetSpec().WithMinReadySeconds(minReadySeconds)))
		if err != nil {
			t.Fatal(err)
		}
		return asked
	}
	var settled settledChildren
	settled.remember(server, child, digest(1))
	if !settled.isStill(server, child, digest(1)) {
		t.Error("looked at again without a change")
	}
	if settled.isStill(server, child, digest(2)) {
		t.Error("not looked at again when something else is asked for")
	}
	changed := child.DeepCopy()
	changed.ResourceVersion = "6"
	if settled.isStill(server, changed, digest(1)) {
		t.Error("not looked at again when it has changed")
	}
}

// TestWhatTheAPIServerDropsIsSettled: it is not applied again, and nobody is said to have removed it.
func TestWhatTheAPIServerDropsIsSettled(t *testing.T) {
	server := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	child := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "1", ResourceVersion: "5"}}
	changed := child.DeepCopy()
	changed.ResourceVersion = "6"

	var settled settledChildren
	settled.dropped(server, child, 7)
	if !settled.isDropped(server, child, 7) {
		t.Error("applied again without a change")
	}
	if settled.isDropped(server, child, 8) || settled.isDropped(server, changed, 7) {
		t.Error("not applied again after a change")
	}
	if settled.wasEver(server, child) || settled.isStill(server, child, 7) {
		t.Error("settled as if it were as asked for")
	}
	settled.remember(server, child, 7)
	if settled.isDropped(server, child, 7) || !settled.isStill(server, child, 7) {
		t.Error("not settled when it is as asked for")
	}
}
