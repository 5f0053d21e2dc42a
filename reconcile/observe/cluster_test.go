package observe

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestCluster: the group that OpenShift serves decides, and the Service of the API server. No answer is an error, not a guess.
func TestCluster(t *testing.T) {
	for name, test := range map[string]struct {
		serves  []string
		assigns bool
	}{
		"Kubernetes":                {[]string{"apps", "policy"}, false},
		"OpenShift":                 {[]string{"apps", "security.openshift.io", "policy"}, true},
		"some parts of OpenShift's": {[]string{"route.openshift.io", "security.openshift.io.example.com"}, false},
	} {
		cluster, err := Cluster(t.Context(), groups{served: test.serves}, services(corev1.IPv6Protocol))
		if err != nil || cluster.AssignsUsers != test.assigns || cluster.IPFamily != corev1.IPv6Protocol {
			t.Errorf("%s: got %+v, %v", name, cluster, err)
		}
	}
	if _, err := Cluster(t.Context(), groups{err: errors.New("connection refused")}, services(corev1.IPv4Protocol)); err == nil ||
		!strings.Contains(err.Error(), "OpenShift") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("without an answer: got %v", err)
	}
	if cluster, err := Cluster(t.Context(), groups{}, nil); err != nil || cluster.IPFamily != "" {
		t.Errorf("an operator of certain namespaces: got %+v, %v", cluster, err)
	}
	if _, err := Cluster(t.Context(), groups{}, fake.NewClientBuilder().Build()); err == nil || !strings.Contains(err.Error(), "IP family") {
		t.Errorf("without the Service of the API server: got %v", err)
	}
}

// services are those of a cluster that prefers an IP family.
func services(family corev1.IPFamily) client.Reader {
	return fake.NewClientBuilder().WithObjects(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Spec:       corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{family}},
	}).Build()
}

// groups are the API groups that a server answers with.
type groups struct {
	served []string
	err    error
}

func (g groups) ServerGroups() (*metav1.APIGroupList, error) {
	list := &metav1.APIGroupList{}
	for _, name := range g.served {
		list.Groups = append(list.Groups, metav1.APIGroup{Name: name})
	}
	return list, g.err
}
