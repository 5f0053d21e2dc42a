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

	"mcpserver-operator/crd/v1beta1"
)

// Scale is the scale in an apply of the StatefulSet.
type Scale struct {
	// Replicas is the value to claim. Nil leaves replicas out of the apply: the field keeps its value and its owner. Requires
	// that the operator does not own the field, because an apply that drops an owned field resets its value.
	Replicas *int32
	// Declared is the value of spec.replicas that this apply or an earlier apply carries out. It is written to
	// v1beta1.DeclaredReplicasAnnotation. Nil if replicas are not declared.
	Declared *int32
}

// Fixed has the immutable fields of a StatefulSet. If the StatefulSet exists, the operator applies the values that it has.
// The API server therefore never refuses the apply, even after an upgrade of the operator, or if another operator created
// the StatefulSet.
type Fixed struct {
	// Selector selects the pods.
	Selector *metav1ac.LabelSelectorApplyConfiguration
	// PodLabels are labels that all pods have and that select the pods: the matchLabels of the selector, if it has any.
	PodLabels map[string]string
	// ServiceName is the name of the headless Service.
	ServiceName string
	// PodManagementPolicy is how pods are started and stopped.
	PodManagementPolicy appsv1.PodManagementPolicyType
	// VolumeClaimTemplates are the claims created for each pod. The list is atomic: it has one owner.
	VolumeClaimTemplates []corev1ac.PersistentVolumeClaimApplyConfiguration
	// RestartedAt is the last requested restart of the pods: see v1beta1.RestartedAtAnnotation. Empty if none was requested. It can change, but
	// it stays if the MCPServer no longer has the annotation.
	RestartedAt string
}

// FixedFor returns the immutable fields of a StatefulSet that does not exist yet. If an earlier StatefulSet existed, the
// selector is that in the status of the MCPServer, so that the new StatefulSet adopts the remaining pods.
func FixedFor(server *v1beta1.MCPServer) (Fixed, error) {
	selected, err := labelset.ConvertSelectorToLabelsMap(server.Status.Selector)
	if err != nil || len(selected) == 0 {
		selected = SelectorLabels(server.Name)
	}
	fixed := Fixed{
		Selector:    metav1ac.LabelSelector().WithMatchLabels(selected),
		PodLabels:   selected,
		ServiceName: HeadlessServiceName(server.Name),
		// MCP servers need no order. With OrderedReady, a corrected template does not repair a broken rollout
		// (kubernetes/kubernetes#67250).
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

// FixedBy returns the immutable fields of an existing StatefulSet.
func FixedBy(server *v1beta1.MCPServer, live *appsv1.StatefulSet) (Fixed, error) {
	selector, err := configurationOf[metav1ac.LabelSelectorApplyConfiguration](live.Spec.Selector)
	if err != nil {
		return Fixed{}, fmt.Errorf("reading the selector of StatefulSet %q: %w", live.Name, err)
	}
	fixed := Fixed{
		Selector: selector, PodLabels: selector.MatchLabels, ServiceName: live.Spec.ServiceName,
		PodManagementPolicy: live.Spec.PodManagementPolicy, RestartedAt: live.Spec.Template.Annotations[v1beta1.RestartedAtAnnotation],
	}
	if len(fixed.PodLabels) == 0 {
		fixed.PodLabels = nameLabels(server.Name) // the pods of any revision have them
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

// StatefulSet returns the apply configuration of the StatefulSet that runs an MCPServer. Image is what the registry says of its image; nil if
// this is unknown or not needed: see ImageToLookUp. It returns an error if spec.podTemplateSpec, or another field that is copied
// unchanged, is not valid for its type, and ErrCommandUnknown if nobody says what to run.
func StatefulSet(
	server *v1beta1.MCPServer, scale Scale, fixed Fixed, cluster Cluster, image *v1beta1.ImageStatus,
) (*appsv1ac.StatefulSetApplyConfiguration, error) {
	template, err := podTemplate(server, fixed, cluster, image)
	if err != nil {
		return nil, err
	}
	made, err := recordOf(server, template, cluster)
	if err != nil {
		return nil, err
	}
	set, err := StatefulSetWith(template, server, scale, fixed)
	if err != nil {
		return nil, err
	}
	set.WithAnnotations(map[string]string{v1beta1.PodTemplateAnnotation: made.String()})
	if image != nil {
		record, err := imageRecord(image)
		if err != nil {
			return nil, err
		}
		set.WithAnnotations(map[string]string{v1beta1.ImageAnnotation: record})
	}
	return set, nil
}

// StatefulSetWith returns the apply configuration of the StatefulSet with a given pod template, and without its record.
func StatefulSetWith(
	template *corev1ac.PodTemplateSpecApplyConfiguration, server *v1beta1.MCPServer, scale Scale, fixed Fixed,
) (*appsv1ac.StatefulSetApplyConfiguration, error) {
	spec := appsv1ac.StatefulSetSpec().
		WithServiceName(fixed.ServiceName).
		WithPodManagementPolicy(fixed.PodManagementPolicy).
		WithSelector(fixed.Selector).
		WithTemplate(template)
	spec.VolumeClaimTemplates = fixed.VolumeClaimTemplates
	if seconds := server.Spec.MinReadySeconds; seconds != nil && *seconds > 0 {
		spec.WithMinReadySeconds(*seconds) // the API server returns 0 as an absent field
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
	var overrides *v1beta1.MetadataOverrides
	if server.Spec.ResourceOverrides != nil {
		overrides = server.Spec.ResourceOverrides.StatefulSet
	}
	set.WithLabels(labelsWith(server.Name, overrides)).WithAnnotations(annotationsOf(overrides))
	if scale.Declared != nil {
		set.WithAnnotations(map[string]string{
			v1beta1.DeclaredReplicasAnnotation: strconv.FormatInt(int64(*scale.Declared), 10),
		})
	}
	return set, nil
}

// configurationOf converts an object of an API type to its apply configuration. It copies the fields that the JSON of the
// object has.
func configurationOf[C any](from any) (*C, error) {
	content, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("encoding the value: %w", err)
	}
	to := new(C)
	if err := json.Unmarshal(content, to); err != nil {
		return nil, fmt.Errorf("decoding the value: %w", err)
	}
	return to, nil
}
