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

// makeWayForUsers lets a template decide as whom the pods run. One that allows root without naming a user wants the user of the
// image, so that the operator names none either; one that names root cannot mean that root is refused.
func makeWayForUsers(ours, theirs map[string]any) {
	contexts := []map[string]any{theirs}
	for _, container := range entries(theirs, []string{"spec", "containers"}) {
		if container["name"] == ContainerName {
			contexts = append(contexts, map[string]any{"spec": container})
		}
	}
	var allowsRoot, refusesRoot, namesUser, namesRoot bool
	for _, context := range contexts {
		if nonRoot, found, _ := unstructured.NestedBool(context, "spec", "securityContext", "runAsNonRoot"); found {
			allowsRoot, refusesRoot = allowsRoot || !nonRoot, refusesRoot || nonRoot
		}
		if user, found, _ := unstructured.NestedInt64(context, "spec", "securityContext", "runAsUser"); found {
			namesUser, namesRoot = true, namesRoot || user == 0
		}
	}
	if allowsRoot && !namesUser {
		for _, field := range []string{"runAsUser", "runAsGroup", "fsGroup"} {
			unstructured.RemoveNestedField(ours, "spec", "securityContext", field)
		}
	}
	if namesRoot && !refusesRoot {
		unstructured.RemoveNestedField(ours, "spec", "securityContext", "runAsNonRoot")
	}
}

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
