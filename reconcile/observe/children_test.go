package observe

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// TestWhoseAForeignObjectIs verifies how a foreign object is classified: left over from an earlier MCPServer (the garbage collector deletes it),
// created by the operator, or neither.
func TestWhoseAForeignObjectIs(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "new"}}
	owned := func(kind, name string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: v1beta1.GroupVersion.String(), Kind: kind, Name: name, UID: "old", Controller: ptr.To(true)}}
	}
	ours := []metav1.ManagedFieldsEntry{{Manager: applyconfigs.FieldManager}}
	theirs := []metav1.ManagedFieldsEntry{{Manager: ToolHiveManager}}
	ofSet := []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "old", Controller: ptr.To(true)}}
	for name, row := range map[string]struct {
		owners         []metav1.OwnerReference
		managers       []metav1.ManagedFieldsEntry
		leftover, made bool
		madeBefore     bool
	}{
		"of an earlier MCPServer of this name":                        {owned("MCPServer", "web"), ours, true, false, false},
		"of another MCPServer":                                        {owned("MCPServer", "other"), ours, false, false, false},
		"of another kind":                                             {owned("Other", "web"), ours, false, false, false},
		"created by the operator, without an owner":                   {nil, ours, false, true, false},
		"created by another manager, without an owner":                {nil, []metav1.ManagedFieldsEntry{{Manager: "helm"}}, false, false, false},
		"created by the operator, without an owner and managedFields": {nil, nil, false, true, false},
		"created by ToolHive's operator, without an owner":            {nil, theirs, false, false, true},
		"created by ToolHive's operator, owned by its StatefulSet":    {ofSet, theirs, false, false, true},
		"created by ToolHive's operator, then by this one, no owner":  {nil, append(slices.Clone(theirs), ours...), false, true, false},
		"created by ToolHive's operator, owned by something else":     {owned("Other", "web"), theirs, false, false, false},
	} {
		object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "mcp-web-proxy", OwnerReferences: row.owners, ManagedFields: row.managers}}
		if row.made {
			object.Labels = map[string]string{applyconfigs.ManagedByLabel: applyconfigs.FieldManager}
		}
		got := foreign(server, Child{KindService, object.Name}, object)
		if got.Leftover != row.leftover || got.Made != row.made || got.MadeBefore != row.madeBefore {
			t.Errorf("%s: Leftover is %t, Made is %t, MadeBefore is %t", name, got.Leftover, got.Made, got.MadeBefore)
		}
	}
}
