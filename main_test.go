package main

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDiscoverCluster: the group that OpenShift serves decides, and no answer is an error, not a guess.
func TestDiscoverCluster(t *testing.T) {
	for name, test := range map[string]struct {
		serves  []string
		assigns bool
	}{
		"Kubernetes":                {[]string{"apps", "policy"}, false},
		"OpenShift":                 {[]string{"apps", "security.openshift.io", "policy"}, true},
		"some parts of OpenShift's": {[]string{"route.openshift.io", "security.openshift.io.example.com"}, false},
	} {
		cluster, err := discoverCluster(groups{served: test.serves})
		if err != nil || cluster.AssignsUsers != test.assigns {
			t.Errorf("%s: got %+v, %v", name, cluster, err)
		}
	}
	if _, err := discoverCluster(groups{err: errors.New("connection refused")}); err == nil ||
		!strings.Contains(err.Error(), "OpenShift") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("without an answer: got %v", err)
	}
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
