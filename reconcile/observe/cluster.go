package observe

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
)

// Cluster reads the properties of the cluster on which pods depend. If it fails, the operator does not start. With a guess, the
// operator could run pods as a user that the cluster refuses, or servers could listen on an address where nobody reaches them. Services
// is nil if the operator may read only certain namespaces. The operator then reads the Service of each MCPServer instead.
func Cluster(ctx context.Context, discoverer discovery.ServerGroupsInterface, services client.Reader) (applyconfigs.Cluster, error) {
	groups, err := discoverer.ServerGroups()
	if err != nil {
		return applyconfigs.Cluster{}, fmt.Errorf("listing the API groups of the cluster, to find out whether it is OpenShift: %w", err)
	}
	cluster := applyconfigs.Cluster{
		AssignsUsers: slices.ContainsFunc(groups.Groups, func(group metav1.APIGroup) bool {
			return group.Name == applyconfigs.SecurityAPIGroup
		}),
	}
	if services == nil {
		return cluster, nil
	}
	// The Service of the API server has the IP family that a Service gets by default.
	kubernetes := &corev1.Service{}
	if err := services.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}, kubernetes); err != nil {
		return applyconfigs.Cluster{}, fmt.Errorf("reading Service default/kubernetes, to find out the default IP family of the cluster: %w", err)
	}
	if len(kubernetes.Spec.IPFamilies) > 0 {
		cluster.IPFamily = kubernetes.Spec.IPFamilies[0]
	}
	return cluster, nil
}
