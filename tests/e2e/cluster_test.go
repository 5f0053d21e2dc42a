package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// users is the path of the user and group ids in a pod.
const users = ".spec.securityContext['runAsUser', 'runAsGroup', 'fsGroup']"

// openShift makes the API server serve the API group by which the operator detects OpenShift.
const openShift = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: securitycontextconstraints.security.openshift.io}
spec:
  group: security.openshift.io
  scope: Cluster
  names: {plural: securitycontextconstraints, singular: securitycontextconstraints, kind: SecurityContextConstraints}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// TestUsers verifies that pods run as user and group 1000, and on OpenShift with the ids that the cluster assigns.
func TestUsers(t *testing.T) {
	theCluster.NeedAuditLog(t) // not on a shared cluster, because the test installs an API group
	testEnv.Test(t, feature("users").
		Setup(apply(undeclared)).
		Assess("are 1000 on Kubernetes", all(scaleIs(1), eventuallyPrints("1000 1000 1000", "pod/web-0", users))).
		Assess("are left to the cluster on OpenShift", all(
			afterwards(all(operatorStops(), clusterKubectl("delete", "--ignore-not-found", "crd", "securitycontextconstraints.security.openshift.io"),
				groupIsServed(false))), // the operator looks for the group when it starts
			operatorStops(), clusterApply(openShift), groupIsServed(true), operatorStarts(),
			eventuallyPrints("", "pod/web-0", users), eventuallyPrints("true", "pod/web-0", ".spec.securityContext.runAsNonRoot"),
			scaleIs(1))).
		Assess("come from the template on OpenShift as well", all(
			apply(withTemplate(`{spec: {securityContext: {runAsUser: 2000}}}`)), eventuallyPrints("2000", "pod/web-0", users))).
		Feature())
}

// TestAServerOnIPv6 verifies that the server listens on IPv6, from its first pod on, if the Service is IPv6 first.
func TestAServerOnIPv6(t *testing.T) {
	theCluster.NeedAuditLog(t) // an existing cluster may have no IPv6
	const hosts = `.spec.containers[0].env[?(@.value=="::")].name`
	once := eventuallyPrints("1", "statefulset/web", ".metadata.generation")
	testEnv.Test(t, feature("declared").
		Setup(apply(strings.Replace(undeclared, `:1"`, `:1", service: {ipFamilies: [IPv6]}`, 1))).
		Assess("the server listens on it", all(scaleIs(1), eventuallyPrints("MCP_HOST FASTMCP_HOST", "pod/web-0", hosts), once)).
		Feature())
	testEnv.Test(t, feature("the IP family of an existing Service").
		Setup(all(operatorStops(), apply(undeclared), step(func(ctx context.Context, t *testing.T) {
			owner := metav1.NewControllerRef(mcpServer(ctx, t), v1beta1.GroupVersion.WithKind("MCPServer"))
			must(t, theCluster.Client.Create(ctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: in(ctx), Name: applyconfigs.ClientServiceName(server), OwnerReferences: []metav1.OwnerReference{*owner},
				},
				Spec: corev1.ServiceSpec{
					IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol}, Ports: []corev1.ServicePort{{Name: "mcp", Port: 8080}},
				},
			}, client.FieldOwner("somebody")))
		}), operatorStarts())).
		Assess("the server listens on it", all(scaleIs(1), eventuallyPrints("MCP_HOST FASTMCP_HOST", "pod/web-0", hosts), once)).
		Feature())
}

// groupIsServed waits until the API server serves the OpenShift group, or no longer serves it.
func groupIsServed(wanted bool) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		discoverer, err := discovery.NewDiscoveryClientForConfig(theCluster.Config)
		must(t, err)
		eventually(ctx, t, fmt.Sprintf("the group served: %t", wanted), func(context.Context) (string, bool) {
			groups, err := discoverer.ServerGroups()
			must(t, err)
			served := false
			for _, group := range groups.Groups {
				served = served || group.Name == "security.openshift.io"
			}
			return fmt.Sprint(served), served == wanted
		})
	})
}
