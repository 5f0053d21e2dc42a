package reconcile

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
	"mcpserver-operator/reconcile/status"
)

// The counters of the operator, besides those of controller-runtime.
var (
	applies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpserver_applies_total",
		Help: "Applies of children, by kind and by result: applied, conflict (the object had changed; retried) or error.",
	}, []string{"kind", "result"})
	scaleTransfers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpserver_scale_transfers_total",
		Help: "Transfers of the scale of a StatefulSet, by the kind of owner before and after.",
	}, []string{"from", "to"})
	scaleFights = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mcpserver_scale_fights_total",
		Help: "Restores of the scale in a fight: the third within a minute, and each later one.",
	})
)

func init() {
	metrics.Registry.MustRegister(applies, scaleTransfers, scaleFights)
}

// countApplies counts the results of the applies of a pass.
func countApplies(results plan.Results) {
	for i := range results {
		if action := results[i].Step.Action; action != plan.Create && action != plan.Apply {
			continue
		}
		result := map[plan.Outcome]string{plan.Stale: "conflict", plan.Failed: "error"}[results[i].Outcome]
		if result == "" {
			result = "applied"
		}
		applies.WithLabelValues(results[i].Step.Kind, result).Inc()
	}
}

// countTransfer counts a transfer of the scale, if the new status has one more transfer than the previous status.
func countTransfer(before, now *v1beta1.ScaleStatus) {
	if status.Transferred(before, now) {
		scaleTransfers.WithLabelValues(scale.OwnerKind(before.Owner), scale.OwnerKind(now.Owner)).Inc()
	}
}
