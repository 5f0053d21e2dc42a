package plan

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// Residue are fields that an MCPServer has dropped and that stay in a child, because another field manager has also applied them. They may
// be a reference to a Secret that pods still get.
type Residue struct {
	observe.Child
	// Manager is the other field manager.
	Manager string
	// Fields are the paths of the fields.
	Fields []string
}

// left are the fields that one manager keeps in a child.
type left struct {
	manager ownership.Manager
	fields  *fieldpath.Set
}

// Residues remembers the residues of children. After a restart the operator does not know which fields an MCPServer had before.
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

// remaining returns the remembered residues of a child that still exist: neither wanted again nor released by the other manager.
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
		if fields := dropped.Intersection(owned); !fields.Empty() {
			all = append(all, left{manager: ownership.ManagerOf(entry), fields: fields})
		}
	}
	return all, nil
}

// residues returns the residues of a child.
func residues(child observe.Child, all []left) []Residue {
	var told []Residue
	for _, one := range all {
		told = append(told, Residue{Child: child, Manager: one.manager.Name, Fields: outermost(one.fields)})
	}
	return told
}
