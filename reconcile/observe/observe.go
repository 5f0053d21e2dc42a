// Package observe reads the complete input of a pass over an MCPServer into one Snapshot. Only this package reads children. It also defines
// what the cache holds of each kind, and which changes of objects are relevant.
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
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/scale"
)

// Self is the field manager of the operator.
var Self = ownership.Applier(applyconfigs.FieldManager)

// The fields of a StatefulSet that the scale protocol uses: the scale, and the annotation with the declaration.
var (
	ReplicasPath         = fieldpath.MakePathOrDie("spec", "replicas")
	imagePath            = fieldpath.MakePathOrDie("metadata", "annotations", v1beta1.ImageAnnotation)
	DeclaredReplicasPath = fieldpath.MakePathOrDie("metadata", "annotations", v1beta1.DeclaredReplicasAnnotation)
)

// Snapshot is the input of a pass. It is complete: if a read fails, there is no Snapshot, so that the operator never reports or writes anything
// about objects that it could not read.
type Snapshot struct {
	// Server is the MCPServer.
	Server *v1beta1.MCPServer
	// Now is the time of the pass in whole seconds, the precision of the API server.
	Now metav1.Time
	// Children are the children that the MCPServer controls.
	Children Children
	// Foreign are the objects with the name of a wanted child that the MCPServer does not control.
	Foreign []Foreign
	// Fixed are the immutable fields of the StatefulSet. If it exists, they have its values.
	Fixed applyconfigs.Fixed
	// ScaleOwners are the owners of spec.replicas of the StatefulSet.
	ScaleOwners scale.Owners
	// CarriedOut is the last declaration of the scale that was carried out; nil if there is none.
	CarriedOut *int32
	// Autoscalers are the autoscalers of the MCPServer and of its StatefulSet.
	Autoscalers Autoscalers
	// Stray are the names of the pods of a deleted StatefulSet that are not being deleted: see strayPods.
	Stray []string
	// AccountInUse is true if pods may still use the ServiceAccount that the MCPServer no longer wants.
	AccountInUse bool
	// Image is what is known of the image of a stdio server whose MCPServer does not say what to run.
	Image Image
	// Pods are the findings about the pods of the StatefulSet.
	Pods Pods
}

// Children are the existing children; nil if absent or foreign.
type Children struct {
	StatefulSet         *appsv1.StatefulSet
	ClientService       *corev1.Service
	HeadlessService     *corev1.Service
	ServiceAccount      *corev1.ServiceAccount
	NetworkPolicy       *networkingv1.NetworkPolicy
	PodDisruptionBudget *policyv1.PodDisruptionBudget
}

// Reader creates Snapshots.
type Reader struct {
	// Client reads from the cache.
	Client client.Client
	// APIReader reads from the API server, for decisions that must not use a stale cache.
	APIReader client.Reader
	// Seen remembers the children that existed.
	Seen *Seen
	// Cluster are the properties of the cluster on which the pods depend.
	Cluster applyconfigs.Cluster
	// Images tells what registries say of images. If nil, only what the status remembers is known.
	Images Images

	asked askedEvents
}

// Snapshot reads the complete input of a pass. It returns a conflict if the cache is stale: see act.IsStale.
func (r *Reader) Snapshot(ctx context.Context, server *v1beta1.MCPServer, now metav1.Time) (*Snapshot, error) {
	s, err := r.planned(ctx, server, now, r.mayHaveStrayPods)
	if err != nil {
		return nil, err
	}
	if !server.Spec.Suspend && !server.IsOfToolHive() { // otherwise, nothing is planned
		if err := r.readImage(s); err != nil {
			return nil, err
		}
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

// Planned reads only what a plan requires, for a plan that is not carried out. It does not need a cache.
func (r *Reader) Planned(ctx context.Context, server *v1beta1.MCPServer, now metav1.Time) (*Snapshot, error) {
	s, err := r.planned(ctx, server, now, func(context.Context, *Snapshot) (bool, error) { return true, nil })
	if err != nil {
		return nil, err
	}
	return s, r.readImage(s)
}

// planned reads what a plan requires. It looks for stray pods only if there may be any.
func (r *Reader) planned(
	ctx context.Context, server *v1beta1.MCPServer, now metav1.Time, mayHaveStrayPods func(context.Context, *Snapshot) (bool, error),
) (*Snapshot, error) {
	s := &Snapshot{Server: server, Now: now}
	if err := r.readChildren(ctx, s); err != nil {
		return nil, err
	}
	if err := r.readStatefulSet(ctx, s); err != nil {
		return nil, err
	}
	if s.Children.StatefulSet == nil {
		may, err := mayHaveStrayPods(ctx, s)
		if err != nil {
			return nil, err
		}
		if may {
			if s.Stray, err = r.strayPods(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	return s, r.readAccount(ctx, s)
}

// Forget removes a deleted MCPServer.
func (r *Reader) Forget(server client.ObjectKey) {
	r.Seen.forget(server)
	r.asked.forget(server)
}

// readStatefulSet sets the fields of the snapshot that depend on the StatefulSet, or on the values with which it will be created.
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

// lookInto sets the fields of the snapshot that depend on the StatefulSet.
func (s *Snapshot) lookInto(set *appsv1.StatefulSet) (err error) {
	if s.Fixed, err = applyconfigs.FixedBy(s.Server, set); err != nil {
		return err
	}
	if s.ScaleOwners, err = ownership.OwnersOf(set, ReplicasPath); err != nil {
		return fmt.Errorf("reading the owners of the scale of StatefulSet %q: %w", set.Name, err)
	}
	s.CarriedOut = carriedOut(s.Server, set)
	return nil
}

// With returns the snapshot with another version of a child.
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

// readAccount finds out whether pods still use a ServiceAccount that is no longer wanted. It reads the StatefulSet from the API server, because
// the cache may be stale, and pods cannot be created without their ServiceAccount.
func (r *Reader) readAccount(ctx context.Context, s *Snapshot) error {
	account := s.Children.ServiceAccount
	if account == nil || applyconfigs.WantsServiceAccount(s.Server) {
		return nil
	}
	set := &appsv1.StatefulSet{}
	key := client.ObjectKey{Namespace: s.Server.Namespace, Name: applyconfigs.StatefulSetName(s.Server.Name)}
	if err := client.IgnoreNotFound(r.APIReader.Get(ctx, key, set)); err != nil {
		return fmt.Errorf("checking whether StatefulSet %q uses ServiceAccount %q: %w", key.Name, account.Name, err)
	}
	s.AccountInUse = len(s.Stray) > 0 || usesServiceAccount(set, account.Name)
	return nil
}

// usesServiceAccount reports whether pods may use a ServiceAccount: the StatefulSet names it, or a rollout from an earlier template, which
// may name it, is not complete.
func usesServiceAccount(set *appsv1.StatefulSet, name string) bool {
	return set.Spec.Template.Spec.ServiceAccountName == name ||
		set.Status.ObservedGeneration < set.Generation || set.Status.CurrentRevision != set.Status.UpdateRevision
}

// ScaleOwner returns the field manager that decides the scale of the StatefulSet; nil if the scale has no owner.
func (s *Snapshot) ScaleOwner() *ownership.Owner { return s.ScaleOwners.Current(s.Server.Status.Scale) }

// ScaleOwnerName returns the owner of the scale of the StatefulSet, as in status.scale.owner.
func (s *Snapshot) ScaleOwnerName() string {
	return scale.OwnerName(s.ScaleOwner(), ReplicasOf(s.Children.StatefulSet), s.Autoscalers.OfStatefulSet)
}

// ScaleInput returns the input of the decision about the scale.
func (s *Snapshot) ScaleInput() scale.Input {
	in := scale.Input{Declared: s.Server.Spec.DeclaredReplicas(), Policy: s.Server.Spec.ReplicasConflictPolicy, Now: s.Now.Time}
	if set := s.Children.StatefulSet; set != nil {
		in.Live = &scale.Live{Replicas: ReplicasOf(set), Ours: s.ScaleOwners.Ours(), CarriedOut: s.CarriedOut}
	}
	if last := s.Server.Status.Scale; last != nil {
		in.Last = &scale.Last{Replicas: last.Replicas, CarriedOut: last.DeclaredReplicas}
		in.TakeBacks = last.TakeBacks
	}
	return in
}

// IsForeign reports whether a foreign object has the name of a child.
func (s *Snapshot) IsForeign(child Child) bool {
	for _, foreign := range s.Foreign {
		if foreign.Child == child {
			return true
		}
	}
	return false
}
