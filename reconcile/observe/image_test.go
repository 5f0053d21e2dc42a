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

// TestReadImage verifies when the operator asks a registry, and when it uses the record of the StatefulSet or, without one, of the status.
func TestReadImage(t *testing.T) {
	const image = "registry.example/server:1"
	recorded := &v1beta1.ImageStatus{Reference: image, Digest: "sha256:1", Entrypoint: []string{"/recorded"}}
	older := &v1beta1.ImageStatus{Reference: image, Digest: "sha256:3", Entrypoint: []string{"/older"}}
	other := &v1beta1.ImageStatus{Reference: "registry.example/server:0", Digest: "sha256:0", Entrypoint: []string{"/other"}}
	answer := answers{found: registry.Image{Reference: image, Digest: "sha256:2", Entrypoint: []string{"/asked"}}, known: true}
	down := answers{known: true, err: registry.ErrUnavailable}
	for name, row := range map[string]struct {
		record     *v1beta1.ImageStatus // of the StatefulSet
		status     *v1beta1.ImageStatus
		current    bool // the pod template is that of the MCPServer
		answers    answers
		entrypoint string
		err        error
		asked      int
	}{
		"a new server":                                            {nil, nil, false, answer, "/asked", nil, 1},
		"a new server, being looked up":                           {nil, nil, false, answers{}, "", nil, 1},
		"a new server, and the registry is down":                  {nil, nil, false, down, "", registry.ErrUnavailable, 1},
		"a new server, and too many wait":                         {nil, nil, false, answers{err: registry.ErrUnavailable}, "", registry.ErrUnavailable, 1},
		"nothing has changed":                                     {recorded, recorded, true, answer, "/recorded", nil, 0},
		"the pods change":                                         {recorded, recorded, false, answer, "/asked", nil, 1},
		"the pods change, being looked up":                        {recorded, recorded, false, answers{}, "", nil, 1},
		"the pods change, and the registry is down":               {recorded, recorded, false, down, "/recorded", nil, 1},
		"another image":                                           {other, other, false, answer, "/asked", nil, 1},
		"another image, and the registry is down":                 {other, other, false, down, "", registry.ErrUnavailable, 1},
		"the status was not written":                              {recorded, older, true, answer, "/recorded", nil, 0},
		"the status was lost":                                     {recorded, nil, true, answer, "/recorded", nil, 0},
		"the record was lost":                                     {nil, recorded, true, answer, "/recorded", nil, 0},
		"both were lost":                                          {nil, nil, true, answer, "/asked", nil, 1},
		"the StatefulSet is recreated while the registry is down": {nil, recorded, false, down, "/recorded", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}, Spec: v1beta1.MCPServerSpec{Image: image}}
			server.Status.Image = row.status
			inputs, err := applyconfigs.InputsDigest(server, "")
			if err != nil {
				t.Fatal(err)
			}
			if !row.current {
				inputs = "another"
			}
			annotations := map[string]string{v1beta1.PodTemplateAnnotation: applyconfigs.TemplateRecord{Revision: 1, Digest: "d", Inputs: inputs}.String()}
			if row.record != nil {
				content, err := json.Marshal(row.record)
				if err != nil {
					t.Fatal(err)
				}
				annotations[v1beta1.ImageAnnotation] = string(content)
			}
			s := &Snapshot{Server: server, Children: Children{StatefulSet: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}}}}
			images := row.answers
			reader := &Reader{Cluster: applyconfigs.Cluster{RunnerImage: "registry.example/operator:1"}, Images: &images}
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
