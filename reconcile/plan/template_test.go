package plan

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// TestAnUpgradeOfTheOperatorKeepsThePodTemplate verifies that an upgraded operator keeps the pod template until there is a reason to restart the
// pods. The StatefulSet has a template of another revision, without the variable FASTMCP_PORT that the builders of this revision add.
func TestAnUpgradeOfTheOperatorKeepsThePodTemplate(t *testing.T) {
	type change = func(*v1beta1.MCPServer, *appsv1.StatefulSet)
	reported := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Generation, server.Status.ObservedGeneration = 4, 4
	}
	edited := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) { server.Generation = 5 }
	stalled := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionStalled, Status: metav1.ConditionTrue}}
	}
	image := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
		server.Spec.Image = "registry.example/server:2"
	}
	seconds := int32(5)
	other := func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) { server.Spec.MinReadySeconds = &seconds }
	asked := func(number int) change {
		return func(server *v1beta1.MCPServer, _ *appsv1.StatefulSet) {
			server.Annotations = map[string]string{v1beta1.UpdatePodTemplateAnnotation: fmt.Sprint(number)}
		}
	}
	meddled := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		for i := range set.ManagedFields {
			fields := set.ManagedFields[i].FieldsV1.GetRawString()
			set.ManagedFields[i].FieldsV1 = metav1.NewFieldsV1(strings.Replace(fields, `"f:image":{},`, "", 1))
		}
	}
	stranger := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		delete(set.Annotations, v1beta1.PodTemplateAnnotation)
		delete(set.Labels, applyconfigs.ManagedByLabel)
	}
	unrecorded := func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		delete(set.Annotations, v1beta1.PodTemplateAnnotation)
	}

	for name, row := range map[string]struct {
		changes []change
		seen    bool // an earlier pass of this operator has kept the template
		flag    bool
		kept    bool
	}{
		"nothing else has changed":                              {[]change{reported}, false, false, true},
		"nothing else has changed, in a later pass":             {[]change{reported}, true, false, true},
		"suspended and resumed meanwhile":                       {[]change{reported, edited}, false, false, true},
		"the status was removed meanwhile":                      {nil, false, false, true},
		"stalled for another reason":                            {[]change{reported, stalled}, false, false, true},
		"of an operator that did not record revisions":          {[]change{reported, unrecorded}, false, false, true},
		"taken over from another operator":                      {[]change{reported, stranger}, false, false, false},
		"the MCPServer has changed while the operator was down": {[]change{reported, edited, image}, false, false, false},
		"the image has changed":                                 {[]change{reported, edited, image}, true, false, false},
		"a field has changed that does not affect the pods":     {[]change{reported, edited, other}, true, false, true},
		"the last change could not be carried out":              {[]change{reported, stalled, image}, false, false, false},
		"of an operator that did not record revisions, and its last change could not be carried out": {
			[]change{reported, unrecorded, stalled}, false, false, false,
		},
		"the user asks for it":                                {[]change{reported, asked(applyconfigs.TemplateRevision)}, true, false, false},
		"the user has asked for an earlier revision":          {[]change{reported, asked(applyconfigs.TemplateRevision - 1)}, true, false, true},
		"another manager has changed a field of the operator": {[]change{reported, meddled}, true, false, false},
		"the flag": {[]change{reported}, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := converged(t, func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
				ofAnotherRevision(t, set, row.seen)
				for _, change := range row.changes {
					change(server, set)
				}
			})
			m := &maker{Snapshot: s, settings: Settings{UpdateTemplates: row.flag}, memory: NewMemory()}
			step := m.statefulSet()
			update := step.built.update
			if (update != nil) != row.kept {
				t.Fatalf("the action is %s, the update %+v", step.Action, update)
			}
			want := step.Want.(*appsv1ac.StatefulSetApplyConfiguration)
			if made := strings.Contains(fmt.Sprint(unstructuredOf(want).Object), "FASTMCP_PORT"); made == row.kept {
				t.Errorf("the applied template has this revision: %t", made)
			}
			if update != nil && !strings.Contains(strings.Join(update.Fields, " "), `[name="FASTMCP_PORT"]`) {
				t.Errorf("the changed fields are not reported: %q", update.Fields)
			}
			_, waits := want.Annotations[v1beta1.PodTemplateUpdateAnnotation]
			if waits != row.kept {
				t.Errorf("recorded as kept: %t", waits)
			}
		})
	}
}

// ofAnotherRevision changes a StatefulSet to one that an operator of another revision has applied. If seen is true, this operator has recorded
// its own template.
func ofAnotherRevision(t *testing.T, set *appsv1.StatefulSet, seen bool) {
	t.Helper()
	made := set.Annotations[v1beta1.PodTemplateAnnotation]
	env := &set.Spec.Template.Spec.Containers[0].Env
	kept := (*env)[:0]
	for _, variable := range *env {
		if variable.Name != "FASTMCP_PORT" {
			kept = append(kept, variable)
		}
	}
	*env = kept
	for i := range set.ManagedFields {
		fields := set.ManagedFields[i].FieldsV1.GetRawString()
		set.ManagedFields[i].FieldsV1 = metav1.NewFieldsV1(strings.Replace(fields, `"k:{\"name\":\"FASTMCP_PORT\"}":{".":{},"f:name":{},"f:value":{}},`, "", 1))
	}
	owned, err := appsv1ac.ExtractStatefulSet(set, applyconfigs.FieldManager)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := applyconfigs.TemplateDigest(owned.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	record, _ := applyconfigs.TemplateRecordIn(set.Annotations, v1beta1.PodTemplateAnnotation)
	set.Annotations[v1beta1.PodTemplateAnnotation] = applyconfigs.TemplateRecord{
		Revision: applyconfigs.TemplateRevision - 1, Digest: digest, Inputs: record.Inputs,
	}.String()
	if seen {
		set.Annotations[v1beta1.PodTemplateUpdateAnnotation] = made
	}
}
