package observe

import (
	"encoding/json"
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/registry"
)

// answers are Images with one answer. They count how often they are asked.
type answers struct {
	found registry.Image
	known bool
	err   error
	asked int
}

func (a *answers) Get(client.ObjectKey, string) (registry.Image, bool, error) {
	a.asked++
	return a.found, a.known, a.err
}

// TestReadImage verifies when the operator asks a registry, and when it uses the record of the StatefulSet or, without one, of the status. The pods run the
// command of the image recorded.
func TestReadImage(t *testing.T) {
	const image = "registry.example/server:1"
	recorded := &v1beta1.ImageStatus{Reference: image, Digest: "sha256:1", Entrypoint: []string{"/recorded"}}
	older := &v1beta1.ImageStatus{Reference: image, Digest: "sha256:3", Entrypoint: []string{"/older"}}
	other := &v1beta1.ImageStatus{Reference: "registry.example/server:0", Digest: "sha256:0", Entrypoint: []string{"/other"}}
	answer := answers{found: registry.Image{Reference: image, Digest: "sha256:2", Entrypoint: []string{"/asked"}}, known: true}
	down := answers{known: true, err: registry.ErrUnavailable}
	const ours, theirs = applyconfigs.FieldManager, "kubectl-annotate"
	for name, row := range map[string]struct {
		record     *v1beta1.ImageStatus // of the StatefulSet
		writer     string               // of the record
		status     *v1beta1.ImageStatus
		current    bool // the pod template is that of the MCPServer
		answers    answers
		entrypoint string
		err        error
		asked      int
	}{
		"no pods have run it":                                  {nil, "", nil, false, answer, "/asked", nil, 1},
		"no pods have run it, being looked up":                 {nil, "", nil, false, answers{}, "", nil, 1},
		"no pods have run it, and the registry is down":        {nil, "", nil, false, down, "", registry.ErrUnavailable, 1},
		"no pods have run it, and too many wait":               {nil, "", nil, false, answers{err: registry.ErrUnavailable}, "", registry.ErrUnavailable, 1},
		"nothing has changed":                                  {recorded, ours, recorded, true, answer, "/recorded", nil, 0},
		"the pods change":                                      {recorded, ours, recorded, false, answer, "/asked", nil, 1},
		"the pods change, being looked up":                     {recorded, ours, recorded, false, answers{}, "", nil, 1},
		"the pods change, and the registry is down":            {recorded, ours, recorded, false, down, "/recorded", nil, 1},
		"another image":                                        {other, ours, other, false, answer, "/asked", nil, 1},
		"another image, and the registry is down":              {other, ours, other, false, down, "", registry.ErrUnavailable, 1},
		"the status was not written":                           {recorded, ours, older, true, answer, "/recorded", nil, 0},
		"the status was lost":                                  {recorded, ours, nil, true, answer, "/recorded", nil, 0},
		"the record was lost":                                  {nil, "", recorded, true, answer, "/recorded", nil, 0},
		"another client changed the annotation":                {older, theirs, recorded, true, answer, "/recorded", nil, 0},
		"another client changed the annotation and the status": {older, theirs, older, true, down, "", registry.ErrUnavailable, 1},
		"no annotation, and another client changed the status": {nil, "", older, true, down, "", registry.ErrUnavailable, 1},
		"both were lost":                                       {nil, "", nil, true, answer, "/asked", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}, Spec: v1beta1.MCPServerSpec{Image: image}}
			server.Status.Image = row.status
			images := row.answers
			reader := &Reader{Cluster: applyconfigs.Cluster{RunnerImage: "registry.example/operator:1"}, Images: &images}
			s := &Snapshot{Server: server, Children: Children{StatefulSet: &appsv1.StatefulSet{}}}
			fixed, err := applyconfigs.FixedFor(server)
			if err != nil {
				t.Fatal(err)
			}
			s.Fixed = fixed
			want, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, fixed, reader.Cluster, recorded)
			if err != nil {
				t.Fatal(err)
			}
			live := s.Children.StatefulSet
			convert(t, want, live)
			delete(live.Annotations, v1beta1.ImageAnnotation)
			if !row.current {
				live.Annotations[v1beta1.PodTemplateAnnotation] = applyconfigs.TemplateRecord{Revision: 1, Digest: "d", Inputs: "another"}.String()
			}
			if row.record != nil {
				content, err := json.Marshal(row.record)
				if err != nil {
					t.Fatal(err)
				}
				live.Annotations[v1beta1.ImageAnnotation] = string(content)
				live.ManagedFields = []metav1.ManagedFieldsEntry{{
					Manager: row.writer, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "apps/v1", FieldsType: "FieldsV1",
					FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:` + v1beta1.ImageAnnotation + `":{}}}}`),
				}}
			}
			if err := reader.readImage(s); err != nil {
				t.Fatal(err)
			}
			entrypoint := ""
			if s.Image.Found != nil {
				entrypoint = s.Image.Found.Entrypoint[0]
			}
			if s.Image.Reference != image || entrypoint != row.entrypoint || !errors.Is(s.Image.Err, row.err) || images.asked != row.asked {
				t.Errorf("asked %d times: %+v", images.asked, s.Image)
			}
			if mustAsk := s.Image.LookAgain > 0; mustAsk != (row.answers.err != nil && !row.answers.known) {
				t.Errorf("asks again after %s", s.Image.LookAgain)
			}
		})
	}
}

// TestReadImageOfARecreatedStatefulSet verifies that the status counts while there is no StatefulSet and the registry is down.
func TestReadImageOfARecreatedStatefulSet(t *testing.T) {
	server := &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
	server.Status.Image = &v1beta1.ImageStatus{Reference: server.Spec.Image, Entrypoint: []string{"/recorded"}}
	s := &Snapshot{Server: server}
	reader := &Reader{Cluster: applyconfigs.Cluster{RunnerImage: "registry.example/operator:1"}, Images: &answers{known: true, err: registry.ErrUnavailable}}
	if err := reader.readImage(s); err != nil || s.Image.Found != server.Status.Image {
		t.Errorf("%v: %+v", err, s.Image)
	}
}

func convert(t *testing.T, from, to any) {
	t.Helper()
	content, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(content, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadImageTurnedOff verifies that the operator then uses the recorded image, and otherwise says that it does not look up images.
func TestReadImageTurnedOff(t *testing.T) {
	server := &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
	s := &Snapshot{Server: server}
	reader := &Reader{Cluster: applyconfigs.Cluster{RunnerImage: "registry.example/operator:1"}}
	if err := errors.Join(reader.readImage(s)); err != nil || !errors.Is(s.Image.Err, ErrNotLookedUp) {
		t.Errorf("%v: %+v", err, s.Image)
	}
	server.Status.Image = &v1beta1.ImageStatus{Reference: server.Spec.Image, Entrypoint: []string{"/recorded"}}
	s.Image = Image{}
	if err := reader.readImage(s); err != nil || s.Image.Found != server.Status.Image || s.Image.Err != nil {
		t.Errorf("%v: %+v", err, s.Image)
	}
}
