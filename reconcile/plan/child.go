package plan

import (
	"encoding/json"
	"fmt"
	"hash/maphash"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/observe"
)

// neverVersion is a resourceVersion that no object has: the store counts writes up from 1, and the first is older than
// any object. An apply that carries it creates an absent object and is refused with 409 by one that exists. It closes
// the gap between the look that found nothing and the apply that creates.
const neverVersion = "1"

// configuration is what all generated apply configurations have in common.
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

// isGoing reports whether an object is there and is being deleted.
func isGoing[L liveObject](live L) bool {
	var absent L
	return live != absent && !live.GetDeletionTimestamp().IsZero()
}

func refuse(child observe.Child) Step {
	return Step{Child: child, Action: Refuse, Reason: "the MCPServer does not control it"}
}

func waitForDeletion(child observe.Child, live client.Object) Step {
	return Step{Child: child, Action: Wait, Live: live, Reason: "it is being deleted, and comes back when it is gone"}
}

// stepFor plans one child: the first of these that applies. The step is empty for a child that is not wanted.
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
	}
	digest, err := digestOf(want)
	if err != nil {
		return failed(step, err)
	}
	step.digest = digest
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
		if len(m.memory.Residues.of(live)) == 0 {
			return step
		}
		wanted, err := applyconfigs.FieldsOf(unstructuredOf(want))
		if err == nil {
			step.left, err = m.remaining(live, wanted)
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
	if step.left, err = m.leftBy(live, wanted); err != nil {
		return failed(step, err)
	}
	if step.Undoes, err = undone(object, live, m.memory.Seen.WasAsAskedFor(m.Server, child, live.GetUID())); err != nil {
		return failed(step, err)
	}
	if until := m.backsOff(step); !until.IsZero() {
		step.Action, step.Until, step.Reason = BackOff, until, "somebody changes it each time it is put back"
		return step
	}
	step.Action, step.Reason = Apply, "it is not as asked for"
	return step
}

// leftBy returns what is left in a child after an apply.
func (m *maker) leftBy(live client.Object, wanted *fieldpath.Set) ([]left, error) {
	before, err := m.remaining(live, wanted)
	if err != nil {
		return nil, err
	}
	now, err := leaves(live, wanted)
	return append(before, now...), err
}

// ownershipStep plans what has to be put right about a child before it is applied; its action is empty if there is nothing.
func (m *maker) ownershipStep(step Step) (Step, error) {
	for _, plan := range []func(Step) (Step, error){m.repair, m.migrate, m.correct} {
		if step, err := plan(step); err != nil || step.Action != "" {
			return step, err
		}
	}
	return step, nil
}

// checked makes a step Invalid if what it applies is not what the schema takes, such as one environment variable twice.
func checked(step Step) Step {
	if _, err := applyconfigs.FieldsOf(unstructuredOf(step.Want)); err != nil {
		return failed(step, &InvalidSpecError{err})
	}
	return step
}

// isAsAskedFor reports whether what the operator owns in live is exactly what it asks for, as far as the API server lets it. Digest is that
// of want.
func isAsAskedFor[C configuration[C], L liveObject](
	m *maker, child observe.Child, want C, digest uint64, live L, extract func(L, string) (C, error),
) bool {
	if m.memory.Converged.isStill(m.Server, child, live, digest) {
		return true
	}
	owned, err := extract(live, applyconfigs.FieldManager)
	// It fails if somebody wrote what the schema does not allow, such as one environment variable twice. The API server applies to it
	// all the same.
	return err == nil && equality.Semantic.DeepEqual(owned, want)
}

var digestSeed = maphash.MakeSeed()

// digestOf tells apply configurations from each other.
func digestOf(want runtime.ApplyConfiguration) (uint64, error) {
	content, err := json.Marshal(want)
	if err != nil {
		return 0, fmt.Errorf("writing the apply configuration: %w", err)
	}
	return maphash.Bytes(digestSeed, content), nil
}

// unstructuredOf converts an apply configuration, of whose fields only a few have accessors that all kinds share.
func unstructuredOf(config runtime.ApplyConfiguration) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(config)
	if err != nil {
		return &unstructured.Unstructured{} // no generated apply configuration fails to convert
	}
	return &unstructured.Unstructured{Object: content}
}

// fieldsIn are the fields of want that a live object has, whatever their values.
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
