package reconcile

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheMetricShowsThePresentOwnerOfEachScale verifies the metric of the owners. It shows kinds, because any writer can choose the name of its
// field manager.
func TestTheMetricShowsThePresentOwnerOfEachScale(t *testing.T) {
	server := func(name, owner string) *v1beta1.MCPServer {
		server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
		if owner != "" {
			server.Status.Scale = &v1beta1.ScaleStatus{Owner: owner}
		}
		return server
	}
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	cache := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		server("a", "MCPServer"), server("b", "HorizontalPodAutoscaler/b"), server("c", "kubectl"), server("d", "drawn at random"), server("new", ""),
	).Build()
	const wanted = `
		# HELP mcpserver_scale_owner 1 for the current owner of the scale of each MCPServer, by its kind: MCPServer, Unclaimed, HorizontalPodAutoscaler, ScaledObject, a well-known field manager, or other.
		# TYPE mcpserver_scale_owner gauge
		mcpserver_scale_owner{name="a",namespace="team",owner="MCPServer"} 1
		mcpserver_scale_owner{name="b",namespace="team",owner="HorizontalPodAutoscaler"} 1
		mcpserver_scale_owner{name="c",namespace="team",owner="kubectl"} 1
		mcpserver_scale_owner{name="d",namespace="team",owner="other"} 1
	`
	if err := testutil.CollectAndCompare(collector{cache: cache}, strings.NewReader(wanted)); err != nil {
		t.Error(err)
	}
}
