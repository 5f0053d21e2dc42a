package applyconfigs

import (
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheImageIsRecordedWithThePodTemplate verifies that one apply configuration has the pod template and the image with whose command it was built, and
// no record if the command is not that of an image.
func TestTheImageIsRecordedWithThePodTemplate(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}, Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
	image := &v1beta1.ImageStatus{Reference: "registry.example/server:1", Digest: "sha256:1", Entrypoint: []string{"/server"}, Cmd: []string{"stdio"}}
	fixed, err := FixedFor(server)
	if err != nil {
		t.Fatal(err)
	}
	recordedIn := func(image *v1beta1.ImageStatus) *v1beta1.ImageStatus {
		want, err := StatefulSet(server, Scale{}, fixed, Cluster{RunnerImage: "registry.example/operator:1"}, image)
		if err != nil {
			t.Fatal(err)
		}
		return RecordedImage(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Annotations: want.Annotations}})
	}
	if got := recordedIn(image); !reflect.DeepEqual(got, image) {
		t.Errorf("recorded %+v", got)
	}
	server.Spec.Command = []string{"own"}
	if got := recordedIn(nil); got != nil {
		t.Errorf("recorded %+v for a command that is not that of the image", got)
	}
}

// TestARecordThatSomebodyHasSpoiled verifies that a record that is not that of an image counts as none.
func TestARecordThatSomebodyHasSpoiled(t *testing.T) {
	for _, record := range []string{"", "x", "{}", "[]", `{"digest":"sha256:1"}`} {
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1beta1.ImageAnnotation: record}}}
		if got := RecordedImage(set); got != nil {
			t.Errorf("%q: %+v", record, got)
		}
	}
	if got := RecordedImage(nil); got != nil {
		t.Errorf("without a StatefulSet: %+v", got)
	}
}
