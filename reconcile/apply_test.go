package reconcile

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// TestTheAddressFollowsTheServices: an MCPServer that declares no IP family has its pods created once, with an address of
// the family that the cluster gives to the Services of the same pass.
func TestTheAddressFollowsTheServices(t *testing.T) {
	ipv6 := corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol}}}
	for _, test := range []struct {
		name string
		// gives is the family that the cluster gives to Services that are created, and refuses those that it does not create.
		gives   corev1.IPFamily
		refuses []string
		// live and liveHeadless are the Services that are there before the pass.
		live, liveHeadless *corev1.Service
		wanted             string
	}{
		{"created, IPv4", corev1.IPv4Protocol, nil, nil, nil, "0.0.0.0"},
		{"created, IPv6", corev1.IPv6Protocol, nil, nil, nil, "::"},
		{"only the headless one is created", corev1.IPv6Protocol, []string{"mcp-web-proxy"}, nil, nil, "::"},
		{"there", corev1.IPv4Protocol, nil, &ipv6, nil, "::"},
		{"deleted, and refused", corev1.IPv6Protocol, []string{"mcp-web-proxy", "mcp-web-headless"}, nil, &ipv6, "::"},
		{"both refused", corev1.IPv6Protocol, []string{"mcp-web-proxy", "mcp-web-headless"}, nil, nil, "0.0.0.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := &v1alpha1.MCPServer{
				ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"},
				Spec:       v1alpha1.MCPServerSpec{Image: "registry.example/server:1"},
			}
			var sets []*appsv1ac.StatefulSetApplyConfiguration
			c := apiServer(t, server, func(object runtime.ApplyConfiguration) error {
				switch object := object.(type) {
				case *corev1ac.ServiceApplyConfiguration:
					for _, name := range test.refuses {
						if *object.Name == name {
							return errors.New("refused")
						}
					}
					object.Spec.WithIPFamilies(test.gives) // as the answer is decoded into it
				case *appsv1ac.StatefulSetApplyConfiguration:
					sets = append(sets, object)
				}
				return nil
			})
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(server), server); err != nil {
				t.Fatal(err)
			}
			fixed, err := applyconfigs.FixedFor(server)
			if err != nil {
				t.Fatal(err)
			}
			r := &Reconciler{Client: c, APIReader: c}
			p := &pass{server: server, fixed: fixed}
			p.children.clientService, p.children.headlessService = test.live, test.liveHeadless
			if err := r.apply(t.Context(), p); (err != nil) != (test.refuses != nil) {
				t.Fatal(err)
			}
			if len(sets) != 1 {
				t.Fatalf("applied %d StatefulSets", len(sets))
			}
			for _, variable := range sets[0].Spec.Template.Spec.Containers[0].Env {
				if (*variable.Name == "MCP_HOST" || *variable.Name == "FASTMCP_HOST") && *variable.Value != test.wanted {
					t.Errorf("%s is %s, wanted %s", *variable.Name, *variable.Value, test.wanted)
				}
			}
		})
	}
}

// apiServer is an API server that has one MCPServer, and does with what is applied as it is told.
func apiServer(t *testing.T, server *v1alpha1.MCPServer, apply func(runtime.ApplyConfiguration) error) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(server).WithInterceptorFuncs(interceptor.Funcs{
		Apply: func(_ context.Context, _ client.WithWatch, object runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
			return apply(object)
		},
	}).Build()
}
