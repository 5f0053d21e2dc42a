package reconcile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

func TestTheMetricShowsThePresentOwnerOfEachScale(t *testing.T) {
	web := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
	api := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "api"}}
	shows := func(wanted map[string]string) {
		t.Helper()
		if diff := cmp.Diff(wanted, shownScaleOwners(t)); diff != "" {
			t.Errorf("the metric shows (-wanted +shown):\n%s", diff)
		}
	}
	observeScaleOwner(web, &v1alpha1.ScaleStatus{Owner: "MCPServer"})
	observeScaleOwner(api, &v1alpha1.ScaleStatus{Owner: "Unclaimed"})
	shows(map[string]string{"web": "MCPServer", "api": "Unclaimed"})
	observeScaleOwner(web, &v1alpha1.ScaleStatus{Owner: "kubectl"})
	observeScaleOwner(api, &v1alpha1.ScaleStatus{Owner: "Unclaimed"})
	shows(map[string]string{"web": "kubectl", "api": "Unclaimed"})
	forgetScaleOwner(client.ObjectKeyFromObject(web))
	shows(map[string]string{"api": "Unclaimed"})
	forgetScaleOwner(client.ObjectKeyFromObject(api))
	shows(map[string]string{})
}

// shownScaleOwners returns the owner that the metric shows for each name; two for one name are an error.
func shownScaleOwners(t *testing.T) map[string]string {
	t.Helper()
	series := make(chan prometheus.Metric, 10)
	scaleOwner.Collect(series)
	close(series)
	shown := map[string]string{}
	for one := range series {
		var metric dto.Metric
		if err := one.Write(&metric); err != nil {
			t.Fatal(err)
		}
		labels := map[string]string{}
		for _, label := range metric.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		if other, twice := shown[labels["name"]]; twice || metric.GetGauge().GetValue() != 1 {
			t.Errorf("%s has the owners %s and %s, at %v", labels["name"], other, labels["owner"], metric.GetGauge().GetValue())
		}
		shown[labels["name"]] = labels["owner"]
	}
	return shown
}
