package plan

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// olderAPIVersion is the version of MCPServers in the owner references of operators from before v1beta1. The API server still serves it.
var olderAPIVersion = v1beta1.GroupVersion.Group + "/v1alpha1"

// keepAPIVersion keeps an older API version of the MCPServer in the owner reference of a live child. As long as the API server serves it,
// the version has no effect: the UID identifies the owner, and the garbage collector looks the owner up in this version. The admission plugin OwnerReferencesPermissionEnforcement rejects every change of an owner reference by a user who
// may not delete the object, and the operator may delete neither StatefulSets nor Services.
func keepAPIVersion(want runtime.ApplyConfiguration, live client.Object) {
	controller := metav1.GetControllerOfNoCopy(live)
	if controller == nil || controller.APIVersion != olderAPIVersion {
		return
	}
	references := ownerReferencesOf(want)
	for i := range references {
		if references[i].UID != nil && *references[i].UID == controller.UID {
			references[i].WithAPIVersion(controller.APIVersion)
		}
	}
}

func ownerReferencesOf(want runtime.ApplyConfiguration) []metav1ac.OwnerReferenceApplyConfiguration {
	switch want := want.(type) {
	case *appsv1ac.StatefulSetApplyConfiguration:
		return want.OwnerReferences
	case *corev1ac.ServiceApplyConfiguration:
		return want.OwnerReferences
	case *corev1ac.ServiceAccountApplyConfiguration:
		return want.OwnerReferences
	case *networkingv1ac.NetworkPolicyApplyConfiguration:
		return want.OwnerReferences
	case *policyv1ac.PodDisruptionBudgetApplyConfiguration:
		return want.OwnerReferences
	default:
		return nil
	}
}
