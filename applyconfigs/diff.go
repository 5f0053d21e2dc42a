package applyconfigs

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// The functions in this file compute the result of an apply without an API server. An apply configuration is passed as
// unstructured content with its kind.

// FieldsOf returns the fields that an apply configuration claims.
func FieldsOf(want *unstructured.Unstructured) (*fieldpath.Set, error) {
	value, err := typeConverter().ObjectToTyped(want)
	if err != nil {
		return nil, fmt.Errorf("reading the apply configuration: %w", err)
	}
	fields, err := value.ToFieldSet()
	if err != nil {
		return nil, fmt.Errorf("reading the fields of the apply configuration: %w", err)
	}
	return fields, nil
}

// Differences returns the fields of want that have another value in the live object, and the fields of want that the live
// object does not have.
func Differences(want *unstructured.Unstructured, live runtime.Object) (changed, missing *fieldpath.Set, err error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the live object: %w", err)
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(want.GroupVersionKind()) // typed clients leave the kind out
	before, err := typeConverter().ObjectToTyped(object, typed.AllowDuplicates)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the live object: %w", err)
	}
	after, err := merged(want, before)
	if err != nil {
		return nil, nil, err
	}
	comparison, err := before.Compare(after)
	if err != nil {
		return nil, nil, fmt.Errorf("comparing the objects: %w", err)
	}
	return comparison.Modified, comparison.Added, nil
}

// Applied returns the live object after an apply of want by an owner that drops the given fields.
func Applied(want, live *unstructured.Unstructured, dropped *fieldpath.Set) (*unstructured.Unstructured, error) {
	before, err := typeConverter().ObjectToTyped(live, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("reading the live object: %w", err)
	}
	after, err := merged(want, before.RemoveItems(dropped))
	if err != nil {
		return nil, err
	}
	content, ok := after.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, errors.New("the result of the merge is not an object")
	}
	return &unstructured.Unstructured{Object: content}, nil
}

func merged(want *unstructured.Unstructured, live *typed.TypedValue) (*typed.TypedValue, error) {
	typedWant, err := typeConverter().ObjectToTyped(want)
	if err != nil {
		return nil, fmt.Errorf("reading the apply configuration: %w", err)
	}
	after, err := live.Merge(typedWant)
	if err != nil {
		return nil, fmt.Errorf("merging the apply configuration into the live object: %w", err)
	}
	return after, nil
}
