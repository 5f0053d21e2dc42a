package reconcile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// self is the operator as a field manager.
var self = ownership.Applier(applyconfigs.FieldManager)

var (
	replicasPath   = fieldpath.MakePathOrDie("spec", "replicas")
	annotationPath = fieldpath.MakePathOrDie("metadata", "annotations", v1alpha1.DeclaredReplicasAnnotation)
)

// children are the objects of the children's names: nil when absent, and nil when refused.
type children struct {
	statefulSet         *appsv1.StatefulSet
	clientService       *corev1.Service
	headlessService     *corev1.Service
	serviceAccount      *corev1.ServiceAccount
	networkPolicy       *networkingv1.NetworkPolicy
	podDisruptionBudget *policyv1.PodDisruptionBudget
	// scaleOwners own spec.replicas of the StatefulSet.
	scaleOwners []ownership.Owner
	// stray are the names of pods of a StatefulSet that was deleted which are not being deleted: see strayPods.
	stray []string
	// pods are those of the StatefulSet of which there is something to tell.
	pods podsSeen
}

// refusal is an object of a child's name that the MCPServer does not control. It is never written, not even one label.
type refusal struct {
	Kind, Name string
	// Owner is the object that controls it, as KIND/NAME; empty when none does.
	Owner string
	// Managers are the field managers that wrote it.
	Managers []string
}

// observe reads the children, what else has a say in them, and the pods.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	if err := r.observeChildren(ctx, p); err != nil {
		return err
	}
	var err error
	if p.autoscalers, err = r.observeAutoscalers(ctx, p.server); err != nil {
		return err
	}
	if set := p.children.statefulSet; set != nil {
		p.children.pods, err = r.observePods(ctx, p, set)
	}
	return err
}

func (r *Reconciler) observeChildren(ctx context.Context, p *pass) error {
	name := p.server.Name
	var errs [6]error
	p.children.statefulSet, errs[0] = observeChild(ctx, r, p, applyconfigs.StatefulSetName(name), true, &appsv1.StatefulSet{})
	p.children.clientService, errs[1] = observeChild(ctx, r, p, applyconfigs.ClientServiceName(name), true, &corev1.Service{})
	p.children.headlessService, errs[2] = observeChild(ctx, r, p, applyconfigs.HeadlessServiceName(name), true, &corev1.Service{})
	p.children.serviceAccount, errs[3] = observeChild(ctx, r, p, applyconfigs.ServiceAccountName(name),
		applyconfigs.WantsServiceAccount(p.server), &corev1.ServiceAccount{})
	p.children.networkPolicy, errs[4] = observeChild(ctx, r, p, applyconfigs.NetworkPolicyName(name),
		applyconfigs.WantsNetworkPolicy(p.server), &networkingv1.NetworkPolicy{})
	p.children.podDisruptionBudget, errs[5] = observeChild(ctx, r, p, applyconfigs.PodDisruptionBudgetName(name),
		applyconfigs.WantsPodDisruptionBudget(p.server), &policyv1.PodDisruptionBudget{})
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	return r.observeStatefulSet(ctx, p)
}

// observeStatefulSet looks into the StatefulSet, or into what it will be created with.
func (r *Reconciler) observeStatefulSet(ctx context.Context, p *pass) error {
	if err := r.confirmScale(ctx, p); err != nil {
		return err
	}
	var err error
	set := p.children.statefulSet
	if set == nil {
		if p.fixed, err = applyconfigs.FixedFor(p.server); err != nil {
			return err
		}
		p.children.stray, err = r.strayPods(ctx, p)
		return err
	}
	if p.fixed, err = applyconfigs.FixedBy(p.server, set); err != nil {
		return err
	}
	if p.children.scaleOwners, err = ownership.OwnersOf(set, replicasPath); err != nil {
		return fmt.Errorf("reading who owns the scale of StatefulSet %q: %w", set.Name, err)
	}
	return nil
}

// confirmScale looks past the cache when it shows another scale, or another record of the declaration, than the status
// remembers, and fails with a conflict when the cache is behind. A scale from before would replace the one at which the
// StatefulSet has to come back, and a record from before would let the same number, declared again after a release, be
// taken for carried out: neither is followed by a write that could be refused.
func (r *Reconciler) confirmScale(ctx context.Context, p *pass) error {
	cached, last := p.children.statefulSet, p.server.Status.Scale
	if cached == nil || last == nil {
		return nil
	}
	record := recordOf(cached)
	if replicasOf(cached) == last.Replicas && (record == nil || ptr.Equal(record, last.DeclaredReplicas)) {
		return nil
	}
	current := &appsv1.StatefulSet{}
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(cached), current)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading StatefulSet %q again: %w", cached.Name, err)
	}
	// Its status changes all the time while pods come and go.
	if current.UID != cached.UID || current.Generation != cached.Generation || !ptr.Equal(recordOf(current), record) {
		return staleCache(cached.Name)
	}
	return nil
}

// observeChild reads one child into object. It returns nil when there is none, or when it is someone else's. When the cache
// does not show one that was there, the API server is asked, because a pass often follows a creation before the cache
// does. Otherwise the cache is believed: the apply that creates is refused where there is an object (see neverVersion).
func observeChild[L liveObject](
	ctx context.Context, r *Reconciler, p *pass, name string, wanted bool, object L,
) (L, error) {
	var none L
	key := client.ObjectKey{Namespace: p.server.Namespace, Name: name}
	err := r.Client.Get(ctx, key, object)
	if apierrors.IsNotFound(err) && wanted && r.settled.wasThere(p.server, childKey{kind: reflect.TypeOf(object), name: name}) {
		if err = r.APIReader.Get(ctx, key, object); err == nil {
			return none, staleCache(name)
		}
	}
	if apierrors.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("reading the child %q: %w", name, err)
	}
	// Not by the UID alone: with another kind the reference is to nothing, and the cache holds no more than who it is.
	if isChild(object) && metav1.IsControlledBy(object, p.server) {
		revealOwner(object, p.server.UID)
		return object, nil
	}
	if !wanted {
		return none, nil // it is none of our business
	}
	gvk, err := apiutil.GVKForObject(object, r.Client.Scheme())
	if err != nil {
		return none, fmt.Errorf("naming the kind of %q: %w", name, err)
	}
	p.refusals = append(p.refusals, refusalOf(gvk.Kind, object))
	return none, nil
}

func refusalOf(kind string, object client.Object) refusal {
	refused := refusal{Kind: kind, Name: object.GetName()}
	if owner := metav1.GetControllerOf(object); owner != nil {
		refused.Owner = owner.Kind + "/" + owner.Name
	}
	seen := map[string]bool{}
	for _, entry := range object.GetManagedFields() {
		if !seen[entry.Manager] {
			seen[entry.Manager] = true
			refused.Managers = append(refused.Managers, entry.Manager)
		}
	}
	return refused
}

// refused reports whether the object of a child's name is someone else's.
func (p *pass) refused(kind, name string) bool {
	for _, refusal := range p.refusals {
		if refusal.Kind == kind && refusal.Name == name {
			return true
		}
	}
	return false
}

// scaleInput collects what the decision about the scale may look at.
func (p *pass) scaleInput() scaleInput {
	in := scaleInput{Declared: p.server.Spec.Replicas, Policy: p.server.Spec.ReplicasConflictPolicy, Now: p.now.Time}
	if set := p.children.statefulSet; set != nil {
		in.Live = &liveScale{
			Replicas:   replicasOf(set),
			Ours:       ownership.Owns(p.children.scaleOwners, self),
			Owner:      p.scaleOwner(),
			CarriedOut: p.carriedOut(),
		}
	}
	if last := p.server.Status.Scale; last != nil {
		in.Last = &lastScale{Replicas: last.Replicas, CarriedOut: last.DeclaredReplicas}
		in.TakeBacks = last.TakeBacks
	}
	return in
}

// replicasOf returns spec.replicas. The server defaults it to 1, so that it is nil only in objects that no server has
// seen.
func replicasOf(set *appsv1.StatefulSet) int32 {
	if set.Spec.Replicas == nil {
		return 1
	}
	return *set.Spec.Replicas
}

// carriedOut returns the declaration that has been carried out; nil when none has. The annotation on the StatefulSet
// says so, because it was written together with the scale. Should somebody have edited or removed it, it is no longer
// ours, and what the status remembers counts; the next apply puts it right.
func (p *pass) carriedOut() *int32 {
	if record := recordOf(p.children.statefulSet); record != nil {
		return record
	}
	if p.server.Status.Scale == nil {
		return nil
	}
	return p.server.Status.Scale.DeclaredReplicas
}

// recordOf returns the declaration that the operator has recorded on a StatefulSet; nil when there is none, or somebody has
// edited it.
func recordOf(set *appsv1.StatefulSet) *int32 {
	n, err := strconv.ParseInt(set.Annotations[v1alpha1.DeclaredReplicasAnnotation], 10, 32)
	if err != nil {
		return nil
	}
	owners, err := ownership.OwnersOf(set, annotationPath)
	if err != nil || !ownership.Owns(owners, self) {
		return nil
	}
	return ptr.To(int32(n))
}

// serverNameOf returns the name of the MCPServer whose child would have the name of this object.
func serverNameOf(child client.Object) (string, bool) {
	if _, isStatefulSet := child.(*appsv1.StatefulSet); isStatefulSet {
		return child.GetName(), true
	}
	name, ok := strings.CutPrefix(child.GetName(), "mcp-")
	if _, isService := child.(*corev1.Service); !isService || !ok {
		return name, ok
	}
	if server, ok := strings.CutSuffix(name, "-proxy"); ok {
		return server, true
	}
	return strings.CutSuffix(name, "-headless")
}
