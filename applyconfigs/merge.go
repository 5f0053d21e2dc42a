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

// typeConverter has the schemas of the Kubernetes API by which server-side apply merges.
var typeConverter = sync.OnceValue(func() managedfields.TypeConverter {
	return applyconfigurations.NewTypeConverter(clientgoscheme.Scheme)
})

// mergePodTemplate merges the user's partial PodTemplateSpec, as JSON, into the operator's PodTemplateSpec. It merges by the
// schema, as server-side apply does: the user's value replaces the operator's, and entries of a list that have the same key
// are merged. If two fields exclude each other, such as two sources of one volume, the user's field replaces the
// operator's. mergePodTemplate returns an error with the path if a field is not in the schema, or if an entry of a list has
// no key or a duplicate key.
func mergePodTemplate(
	own *corev1ac.PodTemplateSpecApplyConfiguration, user []byte,
) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	theirs := map[string]any{}
	if err := json.Unmarshal(user, &theirs); err != nil {
		return nil, fmt.Errorf("parsing the JSON: %w", err)
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
		return nil, fmt.Errorf("merging the templates: %w", err)
	}
	object, ok := merged.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, errors.New("the result of the merge is not an object")
	}
	template, _, err := unstructured.NestedMap(object, "template")
	if err != nil {
		return nil, fmt.Errorf("reading the merged template: %w", err)
	}
	return templateConfiguration(template)
}

// typedTemplate adds the schema to a PodTemplateSpec. It uses PodTemplate, the only kind that has nothing but a PodTemplateSpec.
func typedTemplate(template map[string]any) (*typed.TypedValue, error) {
	value, err := typeConverter().ObjectToTyped(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "PodTemplate", "template": template,
	}})
	if err != nil {
		return nil, fmt.Errorf("not a valid PodTemplateSpec by the schema: %w", err)
	}
	return value, nil
}

// templateConfiguration converts a PodTemplateSpec. It removes values that the Go type does not encode, such as stdin:
// false. The API server returns the object without them, so that each pass would find a difference.
func templateConfiguration(template map[string]any) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	var object corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(template, &object, true); err != nil {
		return nil, fmt.Errorf("not a valid PodTemplateSpec: %w", err)
	}
	kept, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&object)
	if err != nil {
		return nil, fmt.Errorf("reading the merged template: %w", err)
	}
	keep(template, kept)
	return configurationOf[corev1ac.PodTemplateSpecApplyConfiguration](template)
}

// keep removes from value the fields that are not in kept, which is the same value after a round trip through its Go type.
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

// makeWay removes fields from the operator's template that would exclude a field of the user's. A merge by the schema does
// not know that two fields exclude each other.
func makeWay(ours, theirs map[string]any) {
	// The operator's serviceAccountName would override the deprecated field of the user's.
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
		// Merged, the request of one could be above the limit of the other. For ToolHive's operator, spec.resources are those of its proxy.
		if _, found := their["resources"]; found {
			delete(our, "resources")
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

// makeWayForUsers lets the pods run as the user that the user's template sets. With runAsNonRoot: false and no runAsUser, in
// the pod or in the container of the server, this is the user of the image. With runAsUser: 0, this is root, which the
// kubelet refuses together with the operator's runAsNonRoot: true. A runAsNonRoot in the user's template is not changed.
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
				// The pod keeps runAsNonRoot, which protects the other containers.
				_ = unstructured.SetNestedField(container, false, "securityContext", "runAsNonRoot") // it has a securityContext
			}
			if container["name"] == ContainerName && podUser == nil && user == nil && isFalse(nonRoot) {
				ofImage = true
			}
		}
	}
	if ofImage { // a container cannot unset the user of its pod; fsGroup stays, so that any user can write to the volumes
		unstructured.RemoveNestedField(ours, "spec", "securityContext", "runAsUser")
		unstructured.RemoveNestedField(ours, "spec", "securityContext", "runAsGroup")
	}
}

// userOf returns runAsUser and runAsNonRoot of the securityContext of a pod or a container; nil if unset.
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

// isPrivileged reports whether the API server refuses the securityContext of a container together with
// allowPrivilegeEscalation: false.
func isPrivileged(container map[string]any) bool {
	privileged, _, _ := unstructured.NestedBool(container, "securityContext", "privileged")
	added, _, _ := unstructured.NestedStringSlice(container, "securityContext", "capabilities", "add")
	return privileged || slices.Contains(added, "CAP_SYS_ADMIN")
}

// makeWayInLists calls makeWay for each pair of entries of a list that have the same name.
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
