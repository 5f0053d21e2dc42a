package plan

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// neverVersion is a resourceVersion that no object has: the store counts writes from 1, and its first write precedes any object. An apply
// with this version creates the object if it is absent, and fails with 409 if it exists. This closes the gap between the read that found
// no object and the apply that creates it.
const neverVersion = "1"

// configuration is the common interface of the generated apply configurations.
type configuration[C any] interface {
	runtime.ApplyConfiguration
	comparable
	WithUID(types.UID) C
	WithResourceVersion(string) C
	GetKind() *string
	GetName() *string
}

// liveObject is a pointer to a typed object; nil if it is absent.
type liveObject interface {
	client.Object
	comparable
}

// isGoing reports whether an object exists and is being deleted.
func isGoing[L liveObject](live L) bool {
	var absent L
	return live != absent && !live.GetDeletionTimestamp().IsZero()
}

func refuse(child observe.Child) Step {
	return Step{Child: child, Action: Refuse, Reason: "the MCPServer does not control it"}
}

func waitForDeletion(child observe.Child, live client.Object) Step {
	return Step{Child: child, Action: Wait, Live: live, Reason: "it is being deleted. The operator creates it again after the deletion"}
}

// stepFor plans the step of one child; the first case that applies is used. The step is empty if the child is not wanted.
func stepFor[C configuration[C], L liveObject](m *maker, want C, live L, extract func(L, string) (C, error)) Step {
	var none C
	var absent L
	if want == none {
		return Step{}
	}
	child := observe.Child{Kind: *want.GetKind(), Name: *want.GetName()}
	step := Step{Child: child, Want: want}
	if live != absent {
		step.Live = live
		keepAPIVersion(want, live)
	}
	digest, err := digestOf(want)
	if err != nil {
		return failed(step, err)
	}
	step.digest = digest
	if step.content, err = contentOf(want, digest); err != nil {
		return failed(step, err)
	}
	switch {
	case m.IsForeign(child):
		return refuse(child)
	case isGoing(live):
		return waitForDeletion(child, live)
	case live == absent:
		want.WithResourceVersion(neverVersion)
		step.Action, step.Reason = Create, "it does not exist"
		return checked(step)
	}
	if step, err := m.ownershipStep(step); err != nil || step.Action != "" {
		if err != nil {
			return failed(step, err)
		}
		return step
	}
	if isAsAskedFor(m, child, want, digest, live, extract) {
		step.Action, step.Reason = Keep, asAskedFor
		if len(m.known(child, live)) == 0 {
			return step
		}
		wanted, err := applyconfigs.FieldsOf(unstructuredOf(want))
		if err == nil {
			step.left, err = m.remaining(child, live, wanted)
		}
		if err != nil {
			return failed(step, err)
		}
		return step
	}
	version := live.GetResourceVersion()
	want.WithUID(live.GetUID()).WithResourceVersion(version)
	object := unstructuredOf(want)
	wanted, err := applyconfigs.FieldsOf(object)
	if err != nil {
		return failed(step, &InvalidSpecError{err})
	}
	if step.left, err = m.leftBy(child, live, wanted); err != nil {
		return failed(step, err)
	}
	if step.Undoes, err = undone(object, live, m.memory.Seen.WasAsAskedFor(m.Server, child, live.GetUID(), step.content)); err != nil {
		return failed(step, err)
	}
	if len(step.Undoes) == 0 && m.memory.Seen.WasApplied(m.Server, child, live.GetUID(), digest) {
		if step.Undoes, err = revertedBySomebody(object, live); err != nil {
			return failed(step, err)
		}
	}
	if step, isFight := m.backOff(step, "another writer changes it each time the operator restores it"); isFight {
		return step
	}
	step.Action, step.Reason = Apply, "it does not match the MCPServer"
	return step
}

// ownershipStep plans a step that must precede the apply of a child; its action is empty if there is none.
func (m *maker) ownershipStep(step Step) (Step, error) {
	for _, plan := range []func(Step) (Step, error){m.repair, m.migrate, m.correct} {
		if step, err := plan(step); err != nil || step.Action != "" {
			return step, err
		}
	}
	return step, nil
}

// checked makes a step Invalid if the schema rejects what it applies, such as a duplicate environment variable.
func checked(step Step) Step {
	if _, err := applyconfigs.FieldsOf(unstructuredOf(step.Want)); err != nil {
		return failed(step, &InvalidSpecError{err})
	}
	return step
}

// isAsAskedFor reports whether the fields that the operator owns in live equal want, except for fields that the API server drops. Digest is
// the digest of want.
func isAsAskedFor[C configuration[C], L liveObject](
	m *maker, child observe.Child, want C, digest uint64, live L, extract func(L, string) (C, error),
) bool {
	if m.memory.Converged.isStill(m.Server, child, live, digest) {
		return true
	}
	owned, err := extract(live, applyconfigs.FieldManager)
	// It fails if another writer wrote what the schema does not allow, such as a duplicate environment variable. The API server still
	// accepts an apply to such an object.
	return err == nil && equality.Semantic.DeepEqual(owned, want)
}

var digestSeed = maphash.MakeSeed()

// digestOf returns a digest that identifies an apply configuration.
func digestOf(want runtime.ApplyConfiguration) (uint64, error) {
	content, err := json.Marshal(want)
	if err != nil {
		return 0, fmt.Errorf("writing the apply configuration: %w", err)
	}
	return maphash.Bytes(digestSeed, content), nil
}

// contentOf returns a digest of an apply configuration without the scale. Digest is the digest of want.
func contentOf(want runtime.ApplyConfiguration, digest uint64) (uint64, error) {
	set, is := want.(*appsv1ac.StatefulSetApplyConfiguration)
	if !is {
		return digest, nil
	}
	without, meta, spec := *set, *set.ObjectMetaApplyConfiguration, *set.Spec
	meta.Annotations = maps.Clone(meta.Annotations)
	delete(meta.Annotations, v1beta1.DeclaredReplicasAnnotation)
	spec.Replicas = nil
	without.ObjectMetaApplyConfiguration, without.Spec = &meta, &spec
	return digestOf(&without)
}

// unstructuredOf converts an apply configuration. Only few of its fields have accessors that all kinds share.
func unstructuredOf(config runtime.ApplyConfiguration) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(config)
	if err != nil {
		return &unstructured.Unstructured{} // a generated apply configuration always converts
	}
	return &unstructured.Unstructured{Object: content}
}

// fieldsIn returns the fields of want that a live object has, regardless of their values.
func fieldsIn(want *unstructured.Unstructured, live client.Object) (*fieldpath.Set, error) {
	fields, err := applyconfigs.FieldsOf(want)
	if err != nil {
		return nil, err
	}
	_, missing, err := applyconfigs.Differences(want, live)
	if err != nil {
		return nil, err
	}
	return fields.Difference(missing), nil
}
