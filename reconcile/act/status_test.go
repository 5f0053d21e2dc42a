package act

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheCompleteStatusIsApplied verifies that the apply configuration of a status has all fields of the status. Otherwise a field would never
// be written, and each pass would find a difference.
func TestTheCompleteStatusIsApplied(t *testing.T) {
	at := metav1.NewTime(time.Unix(1700000000, 0))
	status := v1beta1.MCPServerStatus{
		ObservedGeneration: 3, Phase: v1beta1.PhaseReady, Ready: "1/2", Replicas: 2, ReadyReplicas: 1, Selector: "a=b", URL: "http://a",
		Conditions: []metav1.Condition{{
			Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: 3, LastTransitionTime: at, Reason: "R", Message: "m",
		}},
		Scale: &v1beta1.ScaleStatus{
			Replicas: 2, Owner: "o", Manager: "m", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "scale", DeclaredReplicas: ptr.To[int32](1), Since: at,
			TakeBacks: &v1beta1.ScaleTakeBacks{From: "f", Count: 1, Since: at, Last: at},
			Transfers: []v1beta1.ScaleTransfer{{Time: at, From: "a", To: "b", FromReplicas: 1, ToReplicas: 2}},
		},
		Image:      &v1beta1.ImageStatus{Reference: "server:1", Digest: "sha256:1", Entrypoint: []string{"/server"}, Cmd: []string{"stdio"}},
		KeptFields: []v1beta1.KeptFields{{Kind: "StatefulSet", Name: "web", Manager: "m", Fields: []string{".spec"}}},
	}
	for _, value := range []reflect.Value{reflect.ValueOf(status), reflect.ValueOf(*status.Scale), reflect.ValueOf(*status.Image)} {
		for i := range value.NumField() {
			if value.Field(i).IsZero() {
				t.Errorf("this test does not set the field %s", value.Type().Field(i).Name)
			}
		}
	}
	content, err := json.Marshal(statusConfiguration(&status))
	if err != nil {
		t.Fatal(err)
	}
	var applied v1beta1.MCPServerStatus
	if err := json.Unmarshal(content, &applied); err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(applied, status) {
		t.Errorf("applied: %s", content)
	}
}
