package applyconfigs

import (
	"encoding/json"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	labelset "k8s.io/apimachinery/pkg/labels"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// Scale is what an apply of the StatefulSet says about its scale.
type Scale struct {
	// Replicas is the value to claim. Nil leaves replicas out of the apply: the field keeps its value and its owner,
	// provided that the operator does not own it (an apply that drops an owned field removes its value).
	Replicas *int32
	// Declared is the value of spec.replicas that is carried out with this apply, or was by an earlier one; it becomes
	// v1alpha1.DeclaredReplicasAnnotation. Nil while replicas are not declared.
	Declared *int32
}

// Fixed are the fields of a StatefulSet that the API server lets nobody change. Once it exists they follow it, so that
// neither a new version of the operator nor a StatefulSet that another operator made is ever refused.
type Fixed struct {
	// Selector selects the pods.
	Selector *metav1ac.LabelSelectorApplyConfiguration
	// PodLabels are labels that all pods have and that select them: those of the selector, if it goes by labels.
	PodLabels map[string]string
	// ServiceName is the name of the headless Service.
	ServiceName string
	// PodManagementPolicy is how pods are started and stopped.
	PodManagementPolicy appsv1.PodManagementPolicyType
	// VolumeClaimTemplates are the claims that each pod gets. The list has one owner as a whole.
	VolumeClaimTemplates []corev1ac.PersistentVolumeClaimApplyConfiguration
}

// FixedFor returns what a StatefulSet is created with. One that comes back selects the pods that the one before it did,
// as the status says, so that it adopts them.
func FixedFor(server *v1alpha1.MCPServer) (Fixed, error) {
	selected, err := labelset.ConvertSelectorToLabelsMap(server.Status.Selector)
	if err != nil || len(selected) == 0 {
		selected = SelectorLabels(server.Name)
	}
	fixed := Fixed{
		Selector:    metav1ac.LabelSelector().WithMatchLabels(selected),
		PodLabels:   selected,
		ServiceName: HeadlessServiceName(server.Name),
		// MCP servers do not order themselves, and with OrderedReady a broken rollout is not repaired by fixing the
		// template (kubernetes/kubernetes#67250).
		PodManagementPolicy: appsv1.ParallelPodManagement,
	}
	for _, template := range server.Spec.VolumeClaimTemplates {
		spec, err := configurationOf[corev1ac.PersistentVolumeClaimSpecApplyConfiguration](template.Spec)
		if err != nil {
			return Fixed{}, fmt.Errorf("reading spec.volumeClaimTemplates %q: %w", template.Metadata.Name, err)
		}
		claim := corev1ac.PersistentVolumeClaimApplyConfiguration{Spec: spec}
		claim.WithName(template.Metadata.Name).WithLabels(template.Metadata.Labels).WithAnnotations(template.Metadata.Annotations)
		fixed.VolumeClaimTemplates = append(fixed.VolumeClaimTemplates, claim)
	}
	return fixed, nil
}

// FixedBy returns what a StatefulSet that exists was created with.
func FixedBy(server *v1alpha1.MCPServer, live *appsv1.StatefulSet) (Fixed, error) {
	selector, err := configurationOf[metav1ac.LabelSelectorApplyConfiguration](live.Spec.Selector)
	if err != nil {
		return Fixed{}, fmt.Errorf("reading the selector of StatefulSet %q: %w", live.Name, err)
	}
	fixed := Fixed{
		Selector: selector, PodLabels: selector.MatchLabels, ServiceName: live.Spec.ServiceName,
		PodManagementPolicy: live.Spec.PodManagementPolicy,
	}
	if len(fixed.PodLabels) == 0 {
		fixed.PodLabels = SelectorLabels(server.Name)
	}
	for i := range live.Spec.VolumeClaimTemplates {
		claim, err := configurationOf[corev1ac.PersistentVolumeClaimApplyConfiguration](live.Spec.VolumeClaimTemplates[i])
		if err != nil {
			return Fixed{}, fmt.Errorf("reading the claims of StatefulSet %q: %w", live.Name, err)
		}
		fixed.VolumeClaimTemplates = append(fixed.VolumeClaimTemplates, *claim)
	}
	return fixed, nil
}

// StatefulSet returns the apply configuration of the StatefulSet that runs an MCPServer. It fails when
// spec.podTemplateSpec, or another field that is copied as it is, is not what its type takes.
func StatefulSet(
	server *v1alpha1.MCPServer, scale Scale, fixed Fixed, cluster Cluster,
) (*appsv1ac.StatefulSetApplyConfiguration, error) {
	template, err := podTemplate(server, fixed, cluster)
	if err != nil {
		return nil, err
	}
	spec := appsv1ac.StatefulSetSpec().
		WithServiceName(fixed.ServiceName).
		WithPodManagementPolicy(fixed.PodManagementPolicy).
		WithSelector(fixed.Selector).
		WithTemplate(template)
	spec.VolumeClaimTemplates = fixed.VolumeClaimTemplates
	if seconds := server.Spec.MinReadySeconds; seconds != nil && *seconds > 0 {
		spec.WithMinReadySeconds(*seconds) // 0 reads back without the key
	}
	if scale.Replicas != nil {
		spec.WithReplicas(*scale.Replicas)
	}
	if from := server.Spec.UpdateStrategy; from != nil && *from != (appsv1.StatefulSetUpdateStrategy{}) {
		strategy, err := configurationOf[appsv1ac.StatefulSetUpdateStrategyApplyConfiguration](from)
		if err != nil {
			return nil, fmt.Errorf("reading spec.updateStrategy: %w", err)
		}
		spec.WithUpdateStrategy(strategy)
	}
	if from := server.Spec.PersistentVolumeClaimRetentionPolicy; from != nil && *from != (appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}) {
		policy, err := configurationOf[appsv1ac.StatefulSetPersistentVolumeClaimRetentionPolicyApplyConfiguration](from)
		if err != nil {
			return nil, fmt.Errorf("reading spec.persistentVolumeClaimRetentionPolicy: %w", err)
		}
		spec.WithPersistentVolumeClaimRetentionPolicy(policy)
	}

	set := appsv1ac.StatefulSet(StatefulSetName(server.Name), server.Namespace).
		WithOwnerReferences(controllerReference(server)).
		WithSpec(spec)
	var overrides *v1alpha1.MetadataOverrides
	if server.Spec.ResourceOverrides != nil {
		overrides = server.Spec.ResourceOverrides.StatefulSet
	}
	made, err := madeTemplate(template)
	if err != nil {
		return nil, err
	}
	set.WithLabels(labelsWith(server.Name, overrides)).WithAnnotations(annotationsOf(overrides)).
		WithAnnotations(map[string]string{v1alpha1.PodTemplateAnnotation: made.String()})
	if scale.Declared != nil {
		set.WithAnnotations(map[string]string{
			v1alpha1.DeclaredReplicasAnnotation: strconv.FormatInt(int64(*scale.Declared), 10),
		})
	}
	return set, nil
}

// configurationOf copies an object of an API type into its apply configuration: the fields that its type writes, which
// are those that are set.
func configurationOf[C any](from any) (*C, error) {
	content, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	to := new(C)
	if err := json.Unmarshal(content, to); err != nil {
		return nil, fmt.Errorf("converting it: %w", err)
	}
	return to, nil
}
