package plan

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// Residue is what an MCPServer no longer asks for and what stays in a child all the same, because somebody else has applied it too. It may
// be a Secret that pods still get.
type Residue struct {
	observe.Child
	// Manager is the other field manager.
	Manager string
	// Fields are the paths.
	Fields []string
}

// left is what one manager keeps in a child.
type left struct {
	manager ownership.Manager
	fields  *fieldpath.Set
}

// Residues remembers what was left in children. An operator that has restarted no longer knows what an MCPServer had asked for before.
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

// remaining returns what was left in a child and still is: neither asked for again, nor given up by the other manager.
func (m *maker) remaining(live client.Object, wanted *fieldpath.Set) ([]left, error) {
	var still []left
	for _, before := range m.memory.Residues.of(live) {
		for _, entry := range live.GetManagedFields() {
			if ownership.ManagerOf(entry) != before.manager {
				continue
			}
			owned, err := ownership.FieldsOf(entry)
			if err != nil {
				return nil, err
			}
			if fields := before.fields.Intersection(owned).Difference(wanted); !fields.Empty() {
				still = append(still, left{manager: before.manager, fields: fields})
			}
		}
	}
	return still, nil
}

// leaves returns what an apply drops and others keep. The scale is not among it: it is given up on purpose.
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
		if fields := dropped.Intersection(owned); !fields.Empty() {
			all = append(all, left{manager: ownership.ManagerOf(entry), fields: fields})
		}
	}
	return all, nil
}

// residues says what is left in a child.
func residues(child observe.Child, all []left) []Residue {
	var told []Residue
	for _, one := range all {
		told = append(told, Residue{Child: child, Manager: one.manager.Name, Fields: outermost(one.fields)})
	}
	return told
}
