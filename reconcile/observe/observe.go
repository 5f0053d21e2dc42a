// Package observe reads everything that a pass over an MCPServer may look at into one Snapshot. Only this package reads children. It
// also says what the cache holds of each kind, and which of its changes show something else.
package observe

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/scale"
)

// Self is the operator as a field manager.
var Self = ownership.Applier(applyconfigs.FieldManager)

// The fields of a StatefulSet that the protocol of the scale is about: the scale, and the record of the declaration.
var (
	ReplicasPath         = fieldpath.MakePathOrDie("spec", "replicas")
	DeclaredReplicasPath = fieldpath.MakePathOrDie("metadata", "annotations", v1alpha1.DeclaredReplicasAnnotation)
)

// Snapshot is everything that a pass looks at. It is complete: a read that fails leaves no Snapshot, so that nothing is reported, or
// written, of what was not seen.
type Snapshot struct {
	// Server is the MCPServer.
	Server *v1alpha1.MCPServer
	// Now is the time of the pass in whole seconds, as it reads back from the API server.
	Now metav1.Time
	// Children are those that the MCPServer controls.
	Children Children
	// Foreign are the objects of a child's name that the MCPServer does not control, of children that it wants.
	Foreign []Foreign
	// Fixed are the fields of the StatefulSet that follow it once it exists.
	Fixed applyconfigs.Fixed
	// ScaleOwners own spec.replicas of the StatefulSet.
	ScaleOwners scale.Owners
	// CarriedOut is the declaration of the scale that was carried out last; nil if none was.
	CarriedOut *int32
	// Autoscalers are those that scale the MCPServer.
	Autoscalers Autoscalers
	// Stray are the names of pods of a StatefulSet that was deleted which nobody has begun to delete: see strayPods.
	Stray []string
	// AccountInUse is true if pods run, or may be created, as the ServiceAccount that the MCPServer no longer wants.
	AccountInUse bool
	// Pods are what there is to tell of the pods of the StatefulSet.
	Pods Pods
}

// Children are the children that there are; nil if absent or foreign.
type Children struct {
	StatefulSet         *appsv1.StatefulSet
	ClientService       *corev1.Service
	HeadlessService     *corev1.Service
	ServiceAccount      *corev1.ServiceAccount
	NetworkPolicy       *networkingv1.NetworkPolicy
	PodDisruptionBudget *policyv1.PodDisruptionBudget
}

// Reader makes Snapshots.
type Reader struct {
	// Client reads from the cache.
	Client client.Client
	// APIReader reads from the API server, where a decision may not rest on a cache that lags.
	APIReader client.Reader
	// Seen is which children there were.
	Seen *Seen

	asked askedEvents
}

// Snapshot looks at everything about an MCPServer. It fails with a conflict if the cache is behind: see act.IsStale.
func (r *Reader) Snapshot(ctx context.Context, server *v1alpha1.MCPServer, now metav1.Time) (*Snapshot, error) {
	s, err := r.Planned(ctx, server, now)
	if err != nil {
		return nil, err
	}
	if s.Children.StatefulSet == nil {
		if s.Stray, err = r.strayPods(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := r.readAccount(ctx, s); err != nil {
		return nil, err
	}
	if s.Autoscalers, err = r.readAutoscalers(ctx, server); err != nil {
		return nil, err
	}
	if s.Children.StatefulSet != nil {
		if s.Pods, err = r.readPods(ctx, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Planned looks only at the children: enough for a plan that is not carried out. It needs no cache.
func (r *Reader) Planned(ctx context.Context, server *v1alpha1.MCPServer, now metav1.Time) (*Snapshot, error) {
	s := &Snapshot{Server: server, Now: now}
	if err := r.readChildren(ctx, s); err != nil {
		return nil, err
	}
	if err := r.readStatefulSet(ctx, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Forget forgets an MCPServer that is gone.
func (r *Reader) Forget(server client.ObjectKey) {
	r.Seen.forget(server)
	r.asked.forget(server)
}

// readStatefulSet looks into the StatefulSet, or into what it will be created with.
func (r *Reader) readStatefulSet(ctx context.Context, s *Snapshot) (err error) {
	set := s.Children.StatefulSet
	if set == nil {
		if s.Fixed, err = applyconfigs.FixedFor(s.Server); err != nil {
			return err
		}
		if last := s.Server.Status.Scale; last != nil {
			s.CarriedOut = last.DeclaredReplicas
		}
		return nil
	}
	if err := r.confirmScale(ctx, s.Server, set); err != nil {
		return err
	}
	return s.lookInto(set)
}

// lookInto looks into the StatefulSet.
func (s *Snapshot) lookInto(set *appsv1.StatefulSet) (err error) {
	if s.Fixed, err = applyconfigs.FixedBy(s.Server, set); err != nil {
		return err
	}
	if s.ScaleOwners, err = ownership.OwnersOf(set, ReplicasPath); err != nil {
		return fmt.Errorf("reading who owns the scale of StatefulSet %q: %w", set.Name, err)
	}
	s.CarriedOut = carriedOut(s.Server, set)
	return nil
}

// With returns the snapshot as it would be if a child were another version of itself.
func (s *Snapshot) With(child client.Object) (*Snapshot, error) {
	next := *s
	switch child := child.(type) {
	case *appsv1.StatefulSet:
		next.Children.StatefulSet = child
		return &next, next.lookInto(child)
	case *corev1.Service:
		if child.Name == applyconfigs.ClientServiceName(s.Server.Name) {
			next.Children.ClientService = child
		} else {
			next.Children.HeadlessService = child
		}
	case *corev1.ServiceAccount:
		next.Children.ServiceAccount = child
	case *networkingv1.NetworkPolicy:
		next.Children.NetworkPolicy = child
	case *policyv1.PodDisruptionBudget:
		next.Children.PodDisruptionBudget = child
	}
	return &next, nil
}

// readAccount looks whether a ServiceAccount that is no longer wanted is still used. The cache of the StatefulSet may be behind, and
// without its account no pod is created.
func (r *Reader) readAccount(ctx context.Context, s *Snapshot) error {
	account := s.Children.ServiceAccount
	if account == nil || applyconfigs.WantsServiceAccount(s.Server) {
		return nil
	}
	set := &appsv1.StatefulSet{}
	key := client.ObjectKey{Namespace: s.Server.Namespace, Name: applyconfigs.StatefulSetName(s.Server.Name)}
	if err := client.IgnoreNotFound(r.APIReader.Get(ctx, key, set)); err != nil {
		return fmt.Errorf("looking whether StatefulSet %q uses ServiceAccount %q: %w", key.Name, account.Name, err)
	}
	s.AccountInUse = len(s.Stray) > 0 || usesServiceAccount(set, account.Name)
	return nil
}

// usesServiceAccount reports whether pods run, or may be created, as a ServiceAccount: the StatefulSet names it, or is still
// rolling out from a template that may have.
func usesServiceAccount(set *appsv1.StatefulSet, name string) bool {
	return set.Spec.Template.Spec.ServiceAccountName == name ||
		set.Status.ObservedGeneration < set.Generation || set.Status.CurrentRevision != set.Status.UpdateRevision
}

// ScaleOwner is the field manager that decides the scale of the StatefulSet; nil if nobody owns it.
func (s *Snapshot) ScaleOwner() *ownership.Owner { return s.ScaleOwners.Current(s.Server.Status.Scale) }

// ScaleOwnerName names who decides the scale of the StatefulSet, as in status.scale.owner.
func (s *Snapshot) ScaleOwnerName() string {
	return scale.OwnerName(s.ScaleOwner(), ReplicasOf(s.Children.StatefulSet), s.Autoscalers.OfStatefulSet)
}

// ScaleInput is what the decision about the scale may look at.
func (s *Snapshot) ScaleInput() scale.Input {
	in := scale.Input{Declared: s.Server.Spec.Replicas, Policy: s.Server.Spec.ReplicasConflictPolicy, Now: s.Now.Time}
	if set := s.Children.StatefulSet; set != nil {
		in.Live = &scale.Live{Replicas: ReplicasOf(set), Ours: s.ScaleOwners.Ours(), CarriedOut: s.CarriedOut}
	}
	if last := s.Server.Status.Scale; last != nil {
		in.Last = &scale.Last{Replicas: last.Replicas, CarriedOut: last.DeclaredReplicas}
		in.TakeBacks = last.TakeBacks
	}
	return in
}

// IsForeign reports whether the object of a child's name is someone else's.
func (s *Snapshot) IsForeign(child Child) bool {
	for _, foreign := range s.Foreign {
		if foreign.Child == child {
			return true
		}
	}
	return false
}
