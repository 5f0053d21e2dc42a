package reconcile

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"mcpserver-operator/crd/v1alpha1"
)

// The metrics of the operator, besides those of controller-runtime.
var (
	applies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpserver_applies_total",
		Help: "Applies of children, by kind and by result: applied, conflict (the object had changed; tried again) or error.",
	}, []string{"kind", "result"})
	scaleTransfers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpserver_scale_transfers_total",
		Help: "Transfers of the scale of a StatefulSet, by the kind of owner before and after.",
	}, []string{"from", "to"})
	scaleFights = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mcpserver_scale_fights_total",
		Help: "Take-backs of the scale in a fight: the third within a minute against the same writer, and each one after.",
	})
	scaleOwner = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mcpserver_scale_owner",
		Help: "1 for the present owner of the scale of each MCPServer.",
	}, []string{"namespace", "name", "owner"})
)

func init() {
	metrics.Registry.MustRegister(applies, scaleTransfers, scaleFights, scaleOwner)
}

// observeScaleOwner shows the present owner of the scale of an MCPServer, and no earlier one.
func observeScaleOwner(server *v1alpha1.MCPServer, scale *v1alpha1.ScaleStatus) {
	if scale == nil {
		return
	}
	forgetScaleOwner(server.Namespace, server.Name)
	scaleOwner.WithLabelValues(server.Namespace, server.Name, scale.Owner).Set(1)
}

// forgetScaleOwner is for an MCPServer that is gone.
func forgetScaleOwner(namespace, name string) {
	scaleOwner.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "name": name})
}
