package reconcile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		Spec: appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels()}},
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

func TestSharedStringsAreBounded(t *testing.T) {
	var shared sharedStrings
	for i := range 2 * mostShared {
		shared.one(fmt.Sprint(i))
	}
	if len(shared.of) != mostShared {
		t.Errorf("%d strings are kept", len(shared.of))
	}
}
