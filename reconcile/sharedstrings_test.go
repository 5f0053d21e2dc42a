package reconcile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// decoded is a child as a decoder makes it: every string is a new one.
func decoded() *appsv1.StatefulSet {
	labels := func() map[string]string { return map[string]string{strings.Clone("app"): strings.Clone("mcp")} }
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{
			Labels:          labels(),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: strings.Clone("toolhive.stacklok.dev/v1alpha1"), Kind: strings.Clone("MCPServer")}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: strings.Clone("kubectl"), FieldsType: strings.Clone("FieldsV1")}},
		},
		Spec: appsv1.StatefulSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels()},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels()},
				Spec: corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{
					{LabelSelector: &metav1.LabelSelector{MatchLabels: labels()}},
				}},
			},
		},
	}
}

// TestChildrenShareTheirStrings: and are what they were.
func TestChildrenShareTheirStrings(t *testing.T) {
	var shared sharedStrings
	one, other := decoded(), decoded()
	shared.child(one)
	shared.child(other)
	if !reflect.DeepEqual(one, decoded()) {
		t.Errorf("a child has changed: %v", one)
	}
	for what, of := range map[string]func(*appsv1.StatefulSet) string{
		"manager":           func(set *appsv1.StatefulSet) string { return set.ManagedFields[0].Manager },
		"kind of owner":     func(set *appsv1.StatefulSet) string { return set.OwnerReferences[0].Kind },
		"value of label":    func(set *appsv1.StatefulSet) string { return set.Labels["app"] },
		"value of selector": func(set *appsv1.StatefulSet) string { return set.Spec.Selector.MatchLabels["app"] },
		"key of label": func(set *appsv1.StatefulSet) string {
			for key := range set.Labels {
				return key
			}
			return ""
		},
	} {
		if unsafe.StringData(of(one)) != unsafe.StringData(of(other)) {
			t.Errorf("the %s is there twice", what)
		}
	}
}

func TestAStatefulSetHasEqualLabelsOnce(t *testing.T) {
	var shared sharedStrings
	set := decoded()
	shared.child(set)
	template := set.Spec.Template
	for what, pair := range map[string][2]map[string]string{
		"labels":    {set.Labels, template.Labels},
		"selectors": {set.Spec.Selector.MatchLabels, template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels},
	} {
		if reflect.ValueOf(pair[0]).Pointer() != reflect.ValueOf(pair[1]).Pointer() {
			t.Errorf("the %s are there twice", what)
		}
	}
}

// ownedBy is the content of the managedFields of a child whose owner has a UID.
func ownedBy(owner string) string {
	return `{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"other\"}":{},"k:{\"uid\":\"` + owner + `\"}":{}}}}`
}

// childOf returns a child of the MCPServer that has a UID, as the API server has it.
func childOf(owner types.UID) *appsv1.StatefulSet {
	child := decoded()
	child.OwnerReferences[0].UID, child.OwnerReferences[0].Controller = owner, ptr.To(true)
	child.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(ownedBy(string(owner)))
	return child
}

// TestChildrenShareTheirOwnedFields: they have a UID in them, which is different for each MCPServer.
func TestChildrenShareTheirOwnedFields(t *testing.T) {
	var shared sharedStrings
	one, other := childOf("1"), childOf("2")
	shared.child(one)
	shared.child(other)
	if got, want := one.ManagedFields[0].FieldsV1.GetRawString(), other.ManagedFields[0].FieldsV1.GetRawString(); got != want {
		t.Errorf("one has %s, the other %s", got, want)
	}
}

func TestAChildFromTheCacheOwnsWhatItDidBefore(t *testing.T) {
	var shared sharedStrings
	child := childOf("1")
	shared.child(child)
	revealOwner(child, "1")
	if !reflect.DeepEqual(child, childOf("1")) {
		t.Errorf("it has changed: %s", child.ManagedFields[0].FieldsV1.GetRawString())
	}
}

func TestSharedStringsAreBounded(t *testing.T) {
	var shared sharedStrings
	for i := range 2 * mostShared {
		shared.one(fmt.Sprint(i))
	}
	if len(shared.of) != mostShared {
		t.Errorf("%d strings are kept", len(shared.of))
	}
}
