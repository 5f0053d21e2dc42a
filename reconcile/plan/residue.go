package plan

import (
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// left are fields that the MCPServer has dropped and that stay in a child, because another field manager has also applied them. They may be a
// reference to a Secret that pods still get.
type left struct {
	// manager is the name of the other field manager.
	manager string
	// fields are the paths of the outermost fields.
	fields []string
}

// Residues remembers what is left in children until it is in the status of the MCPServer. From there, it is known after a restart.
type Residues struct {
	mutex   sync.Mutex
	byChild map[types.UID][]left
}

func (r *Residues) of(child client.Object) []left {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.byChild[child.GetUID()]
}

func (r *Residues) set(child client.Object, all []left) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(all) == 0 {
		delete(r.byChild, child.GetUID())
		return
	}
	if r.byChild == nil {
		r.byChild = map[types.UID][]left{}
	}
	r.byChild[child.GetUID()] = all
}

// known returns what was left in a child when it was last looked at. It may be outdated.
func (m *maker) known(child observe.Child, live client.Object) []left {
	known := m.memory.Residues.of(live)
	for _, kept := range m.Server.Status.KeptFields {
		isKnown := slices.ContainsFunc(known, func(one left) bool { return one.manager == kept.Manager })
		if kept.Kind == child.Kind && kept.Name == child.Name && !isKnown {
			known = append(slices.Clip(known), left{manager: kept.Manager, fields: kept.Fields})
		}
	}
	return known
}

// remaining returns what is still left in a child: neither wanted again nor released by the other manager.
func (m *maker) remaining(child observe.Child, live client.Object, wanted *fieldpath.Set) ([]left, error) {
	var still []left
	for _, before := range m.known(child, live) {
		owned := fieldpath.NewSet()
		for _, entry := range live.GetManagedFields() {
			if entry.Manager != before.manager || ownership.ManagerOf(entry) == observe.Self {
				continue
			}
			fields, err := ownership.FieldsOf(entry)
			if err != nil {
				return nil, err
			}
			owned = owned.Union(fields)
		}
		if fields := ofWhich(before.fields, owned.Difference(wanted)); len(fields) > 0 {
			still = append(still, left{manager: before.manager, fields: fields})
		}
	}
	return still, nil
}

// ofWhich returns those fields of which a set has the field itself or a field inside it.
func ofWhich(fields []string, set *fieldpath.Set) []string {
	has := map[string]bool{}
	set.Iterate(func(path fieldpath.Path) {
		text := path.String()
		for _, field := range fields {
			if inside, isInside := strings.CutPrefix(text, field); isInside && (inside == "" || inside[0] == '.' || inside[0] == '[') {
				has[field] = true
			}
		}
	})
	return slices.DeleteFunc(slices.Clone(fields), func(field string) bool { return !has[field] })
}

// leaves returns the fields that an apply drops and other managers keep. The scale is excluded, because the operator releases it on purpose.
func leaves(live client.Object, wanted *fieldpath.Set) ([]left, error) {
	dropped := fieldpath.NewSet()
	for _, entry := range live.GetManagedFields() {
		if ownership.ManagerOf(entry) != observe.Self {
			continue
		}
		ours, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		dropped = ours.Difference(wanted).Difference(scaleFields)
	}
	if dropped.Empty() {
		return nil, nil
	}
	var all []left
	for _, entry := range live.GetManagedFields() {
		if ownership.ManagerOf(entry) == observe.Self {
			continue
		}
		owned, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		if fields := outermost(dropped.Intersection(owned)); len(fields) > 0 {
			all = append(all, left{manager: entry.Manager, fields: fields})
		}
	}
	return all, nil
}

// leftBy returns what is left in a child after an apply.
func (m *maker) leftBy(child observe.Child, live client.Object, wanted *fieldpath.Set) ([]left, error) {
	all, err := m.remaining(child, live, wanted)
	if err != nil {
		return nil, err
	}
	now, err := leaves(live, wanted)
	for _, more := range now {
		same := slices.IndexFunc(all, func(one left) bool { return one.manager == more.manager })
		if same < 0 {
			all = append(all, more)
			continue
		}
		for _, field := range more.fields {
			if !slices.Contains(all[same].fields, field) {
				all[same].fields = append(all[same].fields, field)
			}
		}
	}
	return all, err
}

// Maximums of the list in the status, and of each list of fields in it, as in the schema.
const (
	mostKept       = 16
	mostKeptFields = 32
)

// Kept returns what is left in the children after a pass, for the status. For a child that exists and that the pass did not compare with the
// MCPServer, it returns what the status had.
func (r Results) Kept(before []v1beta1.KeptFields) []v1beta1.KeptFields {
	var all []v1beta1.KeptFields
	for i := range r {
		step := &r[i].Step
		if (step.Action == Keep || step.Action == Apply) && (r[i].Outcome == Nothing || r[i].Outcome == Written) {
			for _, one := range step.left {
				all = append(all, v1beta1.KeptFields{
					Kind: step.Kind, Name: step.Name, Manager: one.manager, Fields: one.fields[:min(len(one.fields), mostKeptFields)],
				})
			}
			continue
		}
		for _, kept := range before {
			if step.Live != nil && kept.Kind == step.Kind && kept.Name == step.Name {
				all = append(all, kept)
			}
		}
	}
	return all[:min(len(all), mostKept)]
}
