package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	"mcpserver-operator/crd/v1beta1"
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

// The field managers of ToolHive.
const (
	// ToolHiveManager applies StatefulSets and their Services. The proxy of an MCPServer runs it.
	ToolHiveManager = "toolhive-container-manager"
	// ToolHiveOperator is the operator, which writes the Service for clients.
	ToolHiveOperator = "thv-operator"
)

// The labels of ToolHive on StatefulSets and their pods.
const (
	toolHiveLabel = "toolhive" // "true"
	// ToolHiveNameLabel has the name of the MCPServer.
	ToolHiveNameLabel = "toolhive-name"
)

// IsOfToolHive reports whether ToolHive wrote an object for an MCPServer of the given name. The labels decide, if the object has them, because a restore from a
// backup may lose the field managers.
func IsOfToolHive(object metav1.Object, server string) bool {
	if name, has := object.GetLabels()[ToolHiveNameLabel]; has && (name != server || object.GetLabels()[toolHiveLabel] == "true") {
		return name == server
	}
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == ToolHiveManager || entry.Manager == ToolHiveOperator
	})
}

// Child is the identity of a child of an MCPServer.
type Child struct {
	Kind, Name string
}

func (c Child) String() string { return fmt.Sprintf("%s %q", c.Kind, c.Name) }

// Foreign is an object with the name of a child that the MCPServer does not control. The operator never writes it, not even a label.
type Foreign struct {
	Child
	// Owner is the controller of the object, as KIND/NAME; empty if there is none.
	Owner string
	// Managers are the field managers of the object.
	Managers []string
	// Made is true if the operator created the object and its owner reference was removed.
	Made bool
	// MadeBefore is true if another operator for MCPServers created the object for an MCPServer of this name. Some of its versions set no owner
	// reference on the StatefulSet, and make the StatefulSet the owner of the Services.
	MadeBefore bool
	// References are the owner references of the object.
	References []metav1.OwnerReference
	// Leftover is true if an earlier MCPServer of the same name controls the object. The garbage collector deletes the object.
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

// readChild reads a child into object. It returns nil if the child is absent or foreign. If a child that existed is not in the cache, readChild
// reads it from the API server, because a pass often runs after a creation before the cache has the child. Otherwise it relies on the cache:
// the API server rejects the apply that creates a child if the child exists (see plan.neverVersion).
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
	// The UID alone is not enough: a reference with another kind is invalid, and the cache has only the identity of the object.
	if isChild(object) && metav1.IsControlledBy(object, s.Server) {
		return object, nil
	}
	if wanted { // otherwise the object is not relevant
		s.Foreign = append(s.Foreign, foreign(s.Server, child, object))
	}
	return none, nil
}

func foreign(server *v1beta1.MCPServer, child Child, object client.Object) Foreign {
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
	// Whoever removes the owner reference may also remove managedFields.
	found.Made = found.Owner == "" && (seen[applyconfigs.FieldManager] || object.GetLabels()[applyconfigs.ManagedByLabel] == applyconfigs.FieldManager)
	isOfStatefulSet := found.Owner == KindStatefulSet+"/"+applyconfigs.StatefulSetName(server.Name)
	found.MadeBefore = !found.Made && IsOfToolHive(object, server.Name) && (found.Owner == "" || isOfStatefulSet)
	return found
}

var (
	statefulSetKind = appsv1.SchemeGroupVersion.WithKind(KindStatefulSet).GroupKind()
	mcpServerKind   = v1beta1.GroupVersion.WithKind("MCPServer").GroupKind()
)

// isChild reports whether an MCPServer controls an object.
func isChild(object client.Object) bool {
	owner := metav1.GetControllerOfNoCopy(object)
	return owner != nil && isOf(owner, mcpServerKind)
}

// isOf reports whether an owner has a kind, in any API version.
func isOf(owner *metav1.OwnerReference, kind schema.GroupKind) bool {
	return schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind() == kind
}

// confirmScale reads the StatefulSet from the API server if its cached scale, or its cached record of the declaration, differs from the status.
// It returns a conflict if the cache is stale. A stale scale would replace the scale for a recreated StatefulSet. With a stale record, the
// operator would treat a number that is declared again after a release as carried out. In both cases no write follows that the API server
// could reject.
func (r *Reader) confirmScale(ctx context.Context, server *v1beta1.MCPServer, cached *appsv1.StatefulSet) error {
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
	// The resourceVersion is not compared, because the status changes often.
	if current.UID != cached.UID || current.Generation != cached.Generation || !ptr.Equal(recordOf(current), record) {
		return staleCache(cached.Name)
	}
	return nil
}

// staleCache returns the error for a stale cache. It is a conflict, like that of a write.
func staleCache(name string) error {
	return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the cache has another version of it"))
}

// ReplicasOf returns spec.replicas. Defaults to 1, as on the API server.
func ReplicasOf(set *appsv1.StatefulSet) int32 { return ptr.Deref(set.Spec.Replicas, 1) }

// carriedOut returns the last declaration that was carried out; nil if there is none. It reads the annotation on the StatefulSet, which is written
// together with the scale. If another writer has edited or removed the annotation, the operator no longer owns it, and the value in the status
// is used. The next apply restores the annotation.
func carriedOut(server *v1beta1.MCPServer, set *appsv1.StatefulSet) *int32 {
	if record := recordOf(set); record != nil {
		return record
	}
	if server.Status.Scale == nil {
		return nil
	}
	return server.Status.Scale.DeclaredReplicas
}

// recordOf returns the declaration that the operator recorded on a StatefulSet; nil if there is none or if another writer has edited it.
func recordOf(set *appsv1.StatefulSet) *int32 {
	n, err := strconv.ParseInt(set.Annotations[v1beta1.DeclaredReplicasAnnotation], 10, 32)
	if err != nil {
		return nil
	}
	owners, err := ownership.OwnersOf(set, DeclaredReplicasPath)
	if err != nil || !ownership.Owns(owners, Self) {
		return nil
	}
	return ptr.To(int32(n))
}

// ServerOf returns the name of the MCPServer whose child would have the name of an object. It uses the name, not the owner reference, because
// the operator must notice when a foreign object with such a name is deleted.
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
