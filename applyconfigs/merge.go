package applyconfigs

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// typeConverter knows the schemas of the Kubernetes API that server-side apply merges by.
var typeConverter = sync.OnceValue(func() managedfields.TypeConverter {
	return applyconfigurations.NewTypeConverter(clientgoscheme.Scheme)
})

// mergePodTemplate merges the user's partial PodTemplateSpec, as JSON, into the operator's by the schema, as server-side
// apply does: the user's value wins, and entries of a list with the same key are merged. Where a field excludes another,
// such as two sources of one volume, what the user sets replaces what the operator does. It fails, with the path, on a
// field that is not in the schema, and on an entry of a list without its key or with one that is there already.
func mergePodTemplate(
	own *corev1ac.PodTemplateSpecApplyConfiguration, user []byte,
) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	theirs := map[string]any{}
	if err := json.Unmarshal(user, &theirs); err != nil {
		return nil, fmt.Errorf("parsing it: %w", err)
	}
	ours, err := runtime.DefaultUnstructuredConverter.ToUnstructured(own)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's template: %w", err)
	}
	makeWay(ours, theirs)
	typedTheirs, err := typedTemplate(theirs)
	if err != nil {
		return nil, err
	}
	typedOurs, err := typedTemplate(ours)
	if err != nil {
		return nil, err
	}
	merged, err := typedOurs.Merge(typedTheirs)
	if err != nil {
		return nil, fmt.Errorf("merging it: %w", err)
	}
	object, ok := merged.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, errors.New("it is no object")
	}
	template, _, err := unstructured.NestedMap(object, "template")
	if err != nil {
		return nil, fmt.Errorf("reading the merged template: %w", err)
	}
	return templateConfiguration(template)
}

// typedTemplate gives a PodTemplateSpec its schema, by way of the one object of the API that consists of nothing else.
func typedTemplate(template map[string]any) (*typed.TypedValue, error) {
	value, err := typeConverter().ObjectToTyped(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "PodTemplate", "template": template,
	}})
	if err != nil {
		return nil, fmt.Errorf("it does not fit the schema of a PodTemplateSpec: %w", err)
	}
	return value, nil
}

// templateConfiguration converts a PodTemplateSpec. What its type does not keep, such as stdin: false, is left out: it
// reads back without the key, and claiming it would look like a difference at every pass.
func templateConfiguration(template map[string]any) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	var object corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(template, &object, true); err != nil {
		return nil, fmt.Errorf("it does not fit a PodTemplateSpec: %w", err)
	}
	kept, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&object)
	if err != nil {
		return nil, fmt.Errorf("reading the merged template: %w", err)
	}
	keep(template, kept)
	return configurationOf[corev1ac.PodTemplateSpecApplyConfiguration](template)
}

// keep removes from value what kept, the same value after a round trip through its type, has lost.
func keep(value, kept any) {
	switch value := value.(type) {
	case map[string]any:
		kept, _ := kept.(map[string]any)
		for key, child := range value {
			if _, found := kept[key]; !found {
				delete(value, key)
				continue
			}
			keep(child, kept[key])
		}
	case []any:
		kept, _ := kept.([]any)
		for i := range min(len(value), len(kept)) {
			keep(value[i], kept[i])
		}
	}
}

// makeWay removes from the operator's template what would exclude what the user sets: a merge by the schema knows
// nothing of fields of which only one may be set.
func makeWay(ours, theirs map[string]any) {
	// The deprecated name of a field would lose to ours.
	if alias, found, _ := unstructured.NestedString(theirs, "spec", "serviceAccount"); found {
		unstructured.RemoveNestedField(theirs, "spec", "serviceAccount")
		if _, named, _ := unstructured.NestedString(theirs, "spec", "serviceAccountName"); !named {
			_ = unstructured.SetNestedField(theirs, alias, "spec", "serviceAccountName") // it has a spec
		}
	}
	makeWayForUsers(ours, theirs)
	makeWayInLists(ours, theirs, []string{"spec", "volumes"}, func(our, their map[string]any) {
		if len(their) > 1 { // it has a source
			removeAllBut(our, "name")
		}
	})
	makeWayInLists(ours, theirs, []string{"spec", "containers"}, func(our, their map[string]any) {
		for _, probe := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
			if _, found := their[probe]; found {
				delete(our, probe)
			}
		}
		if isPrivileged(their) {
			unstructured.RemoveNestedField(our, "securityContext", "allowPrivilegeEscalation")
		}
		makeWayInLists(our, their, []string{"env"}, func(our, their map[string]any) {
			if len(their) > 1 { // it has a value or where it comes from
				removeAllBut(our, "name")
			}
		})
	})
}

// makeWayForUsers lets the pods run as the user that the template asks for. With runAsNonRoot: false and no runAsUser, in
// the pod or in the container of the server, that is the user of the image. With runAsUser: 0 it is root, which the kubelet
// refuses beside the operator's runAsNonRoot: true. What the template itself says of runAsNonRoot stays.
func makeWayForUsers(ours, theirs map[string]any) {
	podUser, podNonRoot := userOf(theirs, "spec")
	if isRoot(podUser) && podNonRoot == nil {
		unstructured.RemoveNestedField(ours, "spec", "securityContext", "runAsNonRoot")
	}
	ofImage := podUser == nil && isFalse(podNonRoot)
	for _, list := range []string{"initContainers", "containers"} {
		for _, container := range entries(theirs, []string{"spec", list}) {
			user, nonRoot := userOf(container)
			if isRoot(user) && nonRoot == nil && podNonRoot == nil {
				// Not by removing it from the pod: it protects the other containers.
				_ = unstructured.SetNestedField(container, false, "securityContext", "runAsNonRoot") // it has a securityContext
			}
			if container["name"] == ContainerName && podUser == nil && user == nil && isFalse(nonRoot) {
				ofImage = true
			}
		}
	}
	if ofImage { // a container cannot unset the user of its pod; the group of the volumes keeps them writable for any user
		unstructured.RemoveNestedField(ours, "spec", "securityContext", "runAsUser")
		unstructured.RemoveNestedField(ours, "spec", "securityContext", "runAsGroup")
	}
}

// userOf returns what the securityContext of a pod or of a container says about its user; nil for what it leaves out.
func userOf(object map[string]any, path ...string) (runAsUser *int64, runAsNonRoot *bool) {
	context, _, _ := unstructured.NestedMap(object, append(path, "securityContext")...)
	if user, isNumber := context["runAsUser"].(int64); isNumber {
		runAsUser = &user
	}
	if nonRoot, isBool := context["runAsNonRoot"].(bool); isBool {
		runAsNonRoot = &nonRoot
	}
	return runAsUser, runAsNonRoot
}

func isRoot(user *int64) bool { return user != nil && *user == 0 }

func isFalse(value *bool) bool { return value != nil && !*value }

// isPrivileged reports whether a container asks for privileges that the API server refuses without their escalation.
func isPrivileged(container map[string]any) bool {
	privileged, _, _ := unstructured.NestedBool(container, "securityContext", "privileged")
	added, _, _ := unstructured.NestedStringSlice(container, "securityContext", "capabilities", "add")
	return privileged || slices.Contains(added, "CAP_SYS_ADMIN")
}

// makeWayInLists calls makeWay for each two entries of a list that have the same name.
func makeWayInLists(ours, theirs map[string]any, path []string, makeWay func(our, their map[string]any)) {
	for _, our := range entries(ours, path) {
		for _, their := range entries(theirs, path) {
			if our["name"] == their["name"] {
				makeWay(our, their)
			}
		}
	}
}

// entries returns the objects in a list. It does not copy them.
func entries(object map[string]any, path []string) []map[string]any {
	value, _, _ := unstructured.NestedFieldNoCopy(object, path...)
	list, _ := value.([]any)
	var all []map[string]any
	for _, entry := range list {
		if entry, ok := entry.(map[string]any); ok {
			all = append(all, entry)
		}
	}
	return all
}

func removeAllBut(object map[string]any, keep ...string) {
	for key := range object {
		if !slices.Contains(keep, key) {
			delete(object, key)
		}
	}
}
