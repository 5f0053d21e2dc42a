package observe

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// The kinds of children.
const (
	KindStatefulSet         = "StatefulSet"
	KindService             = "Service"
	KindServiceAccount      = "ServiceAccount"
	KindNetworkPolicy       = "NetworkPolicy"
	KindPodDisruptionBudget = "PodDisruptionBudget"
)

// Child is the identity of a child of an MCPServer.
type Child struct {
	Kind, Name string
}

func (c Child) String() string { return fmt.Sprintf("%s %q", c.Kind, c.Name) }

// Foreign is an object of a child's name that the MCPServer does not control. The operator never writes it, not even a label.
type Foreign struct {
	Child
	// Owner is the object that controls it, as KIND/NAME; empty if none does.
	Owner string
	// Managers are the field managers that wrote it.
	Managers []string
	// Made is true if the operator made it and its owner reference is gone.
	Made bool
	// References are its owner references.
	References []metav1.OwnerReference
	// Leftover is true if an earlier MCPServer of the same name controls it. The garbage collector deletes it.
	Leftover bool
}

// liveObject is a pointer to a typed object; nil if it is absent.
type liveObject interface {
	client.Object
	comparable
}

func (r *Reader) readChildren(ctx context.Context, s *Snapshot) error {
	server, children := s.Server, &s.Children
	var errs [6]error
	children.StatefulSet, errs[0] = readChild(ctx, r, s, Child{KindStatefulSet, applyconfigs.StatefulSetName(server.Name)},
		true, &appsv1.StatefulSet{})
	children.ClientService, errs[1] = readChild(ctx, r, s, Child{KindService, applyconfigs.ClientServiceName(server.Name)},
		true, &corev1.Service{})
	children.HeadlessService, errs[2] = readChild(ctx, r, s, Child{KindService, applyconfigs.HeadlessServiceName(server.Name)},
		true, &corev1.Service{})
	children.ServiceAccount, errs[3] = readChild(ctx, r, s, Child{KindServiceAccount, applyconfigs.ServiceAccountName(server.Name)},
		applyconfigs.WantsServiceAccount(server), &corev1.ServiceAccount{})
	children.NetworkPolicy, errs[4] = readChild(ctx, r, s, Child{KindNetworkPolicy, applyconfigs.NetworkPolicyName(server.Name)},
		applyconfigs.WantsNetworkPolicy(server), &networkingv1.NetworkPolicy{})
	children.PodDisruptionBudget, errs[5] = readChild(ctx, r, s,
		Child{KindPodDisruptionBudget, applyconfigs.PodDisruptionBudgetName(server.Name)},
		applyconfigs.WantsPodDisruptionBudget(server), &policyv1.PodDisruptionBudget{})
	return errors.Join(errs[:]...)
}

// readChild reads a child into object. It returns nil if there is none, or if it is someone else's. If the cache does not show a
// child that was there, the API server is asked, because a pass often follows a creation before the cache does. Otherwise the cache is
// believed: the apply that creates is refused where there is an object (see plan.neverVersion).
func readChild[L liveObject](ctx context.Context, r *Reader, s *Snapshot, child Child, wanted bool, object L) (L, error) {
	var none L
	key := client.ObjectKey{Namespace: s.Server.Namespace, Name: child.Name}
	err := r.Client.Get(ctx, key, object)
	if apierrors.IsNotFound(err) && wanted && r.Seen.WasThere(s.Server, child) {
		if err = r.APIReader.Get(ctx, key, object); err == nil {
			return none, staleCache(child.Name)
		}
	}
	if apierrors.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("reading %s: %w", child, err)
	}
	// Not by the UID alone: with another kind the reference is to nothing, and the cache holds no more than who it is.
	if isChild(object) && metav1.IsControlledBy(object, s.Server) {
		return object, nil
	}
	if wanted { // otherwise it is none of our business
		s.Foreign = append(s.Foreign, foreign(s.Server, child, object))
	}
	return none, nil
}

func foreign(server *v1alpha1.MCPServer, child Child, object client.Object) Foreign {
	found := Foreign{Child: child, References: object.GetOwnerReferences()}
	if owner := metav1.GetControllerOf(object); owner != nil {
		found.Owner = owner.Kind + "/" + owner.Name
		found.Leftover = isOf(owner, mcpServerKind) && owner.Name == server.Name && owner.UID != server.UID
	}
	seen := map[string]bool{}
	for _, entry := range object.GetManagedFields() {
		if !seen[entry.Manager] {
			seen[entry.Manager] = true
			found.Managers = append(found.Managers, entry.Manager)
		}
	}
	found.Made = found.Owner == "" && seen[applyconfigs.FieldManager]
	return found
}

var (
	statefulSetKind = appsv1.SchemeGroupVersion.WithKind(KindStatefulSet).GroupKind()
	mcpServerKind   = v1alpha1.GroupVersion.WithKind("MCPServer").GroupKind()
)

// isChild reports whether an MCPServer controls an object.
func isChild(object client.Object) bool {
	owner := metav1.GetControllerOfNoCopy(object)
	return owner != nil && isOf(owner, mcpServerKind)
}

// isOf reports whether an owner is of a kind, in any version.
func isOf(owner *metav1.OwnerReference, kind schema.GroupKind) bool {
	return schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind() == kind
}

// confirmScale looks past the cache if it shows another scale, or another record of the declaration, than the status remembers. It fails
// with a conflict if the cache is behind. A scale from before would replace the scale at which the StatefulSet has to come back, and a
// record from before would let the same number, declared again after a release, be taken for carried out: neither is followed by a
// write that could be refused.
func (r *Reader) confirmScale(ctx context.Context, server *v1alpha1.MCPServer, cached *appsv1.StatefulSet) error {
	last := server.Status.Scale
	if last == nil {
		return nil
	}
	record := recordOf(cached)
	if ReplicasOf(cached) == last.Replicas && (record == nil || ptr.Equal(record, last.DeclaredReplicas)) {
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

// staleCache says that the cache is behind. It is a conflict like that of a write.
func staleCache(name string) error {
	return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the cache holds another version of it"))
}

// ReplicasOf returns spec.replicas. The API server defaults it to 1, so that it is nil only in objects that no API server has seen.
func ReplicasOf(set *appsv1.StatefulSet) int32 { return ptr.Deref(set.Spec.Replicas, 1) }

// carriedOut returns the declaration that has been carried out; nil if none has. The annotation on the StatefulSet says so, because it
// was written together with the scale. If somebody has edited or removed it, it is no longer ours, and what the status remembers
// counts; the next apply puts it right.
func carriedOut(server *v1alpha1.MCPServer, set *appsv1.StatefulSet) *int32 {
	if record := recordOf(set); record != nil {
		return record
	}
	if server.Status.Scale == nil {
		return nil
	}
	return server.Status.Scale.DeclaredReplicas
}

// recordOf returns the declaration that the operator has recorded on a StatefulSet; nil if there is none, or if somebody has edited it.
func recordOf(set *appsv1.StatefulSet) *int32 {
	n, err := strconv.ParseInt(set.Annotations[v1alpha1.DeclaredReplicasAnnotation], 10, 32)
	if err != nil {
		return nil
	}
	owners, err := ownership.OwnersOf(set, DeclaredReplicasPath)
	if err != nil || !ownership.Owns(owners, Self) {
		return nil
	}
	return ptr.To(int32(n))
}

// ServerOf returns the name of the MCPServer whose child would have the name of an object. The name counts, not the owner reference: an
// object of such a name that is not ours has to be noticed when it goes away.
func ServerOf(child client.Object) (string, bool) {
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
