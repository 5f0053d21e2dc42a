package reconcile

import (
	"maps"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// mostShared bounds how many strings are shared. Those that all children have come with the first of them; names and the
// like, which come until it is full, are no more than that.
const mostShared = 1000

// sharedStrings has one copy of each string. A decoder makes a new one for each object, and the children of all MCPServers
// have the same keys and mostly the same values in their labels, selectors and managedFields. The package unique of the
// standard library forgets a string that nobody holds a handle of, and objects hold strings.
type sharedStrings struct {
	mutex sync.Mutex
	of    map[string]string
}

// one returns the copy of a string that all share.
func (s *sharedStrings) one(text string) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if shared, found := s.of[text]; found {
		return shared
	}
	if len(s.of) < mostShared {
		if s.of == nil {
			s.of = map[string]string{}
		}
		s.of[text] = text
	}
	return text
}

// all returns the same map, of shared strings.
func (s *sharedStrings) all(texts map[string]string) map[string]string {
	if texts == nil {
		return nil
	}
	shared := make(map[string]string, len(texts))
	for key, value := range texts {
		shared[s.one(key)] = s.one(value)
	}
	return shared
}

// once returns another map of the same object when it is equal: nobody changes what is in the cache.
func (s *sharedStrings) once(texts, other map[string]string) map[string]string {
	if maps.Equal(texts, other) {
		return other
	}
	return s.all(texts)
}

func (s *sharedStrings) selector(selector *metav1.LabelSelector) {
	if selector != nil {
		selector.MatchLabels = s.all(selector.MatchLabels)
	}
}

// child lets a child share its strings, and the fields that managers own in it: see revealOwner. It must not be in the cache
// yet.
func (s *sharedStrings) child(child client.Object) {
	if owner := metav1.GetControllerOfNoCopy(child); owner != nil {
		renameOwner(child, owner.UID, hiddenOwner)
	}
	child.SetLabels(s.all(child.GetLabels()))
	owners := child.GetOwnerReferences()
	for i := range owners {
		owners[i].APIVersion, owners[i].Kind = s.one(owners[i].APIVersion), s.one(owners[i].Kind)
	}
	child.SetOwnerReferences(owners)
	entries := child.GetManagedFields()
	for i := range entries {
		entry := &entries[i]
		entry.Manager, entry.APIVersion, entry.FieldsType = s.one(entry.Manager), s.one(entry.APIVersion), s.one(entry.FieldsType)
		entry.Operation = metav1.ManagedFieldsOperationType(s.one(string(entry.Operation)))
		entry.Subresource = s.one(entry.Subresource)
	}
	child.SetManagedFields(entries)
	switch child := child.(type) {
	case *appsv1.StatefulSet:
		s.selector(child.Spec.Selector)
		template := &child.Spec.Template
		template.Labels = s.once(template.Labels, child.Labels)
		for _, constraint := range template.Spec.TopologySpreadConstraints {
			if constraint.LabelSelector != nil && child.Spec.Selector != nil {
				constraint.LabelSelector.MatchLabels = s.once(constraint.LabelSelector.MatchLabels, child.Spec.Selector.MatchLabels)
			}
		}
	case *corev1.Service:
		child.Spec.Selector = s.all(child.Spec.Selector)
	case *policyv1.PodDisruptionBudget:
		s.selector(child.Spec.Selector)
	}
}

// hiddenOwner stands in the cache for the UID of an owner in managedFields. The API server accepts no owner without a UID, so
// that it stands for nothing else.
const hiddenOwner types.UID = ""

// revealOwner puts the UID of its MCPServer back into the managedFields of a child from the cache. But for that UID, the
// children of all MCPServers have mostly the same managedFields, which are a sixth of all memory if each has its own.
func revealOwner(child client.Object, owner types.UID) { renameOwner(child, hiddenOwner, owner) }

// renameOwner changes the UID by which managedFields name an owner reference.
func renameOwner(child client.Object, from, to types.UID) {
	for _, entry := range child.GetManagedFields() {
		if raw := entry.FieldsV1.GetRawString(); strings.Contains(raw, ownerKey(from)) {
			entry.FieldsV1.SetRawString(strings.ReplaceAll(raw, ownerKey(from), ownerKey(to)))
		}
	}
}

// ownerKey is the key of an owner reference in managedFields: JSON within JSON.
func ownerKey(owner types.UID) string { return `"k:{\"uid\":\"` + string(owner) + `\"}"` }
