package reconcile

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
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

// shownOwners has the owner that the metric shows for each MCPServer. To look for it in the metric would be a search
// through the series of all MCPServers, in each pass.
var shownOwners = struct {
	sync.Mutex
	of map[types.NamespacedName]string
}{of: map[types.NamespacedName]string{}}

// observeScaleOwner shows the present owner of the scale of an MCPServer, and no earlier one.
func observeScaleOwner(server *v1alpha1.MCPServer, scale *v1alpha1.ScaleStatus) {
	if scale == nil {
		return
	}
	key := types.NamespacedName{Namespace: server.Namespace, Name: server.Name}
	shownOwners.Lock()
	defer shownOwners.Unlock()
	if shown, isShown := shownOwners.of[key]; isShown && shown != scale.Owner {
		scaleOwner.DeleteLabelValues(key.Namespace, key.Name, shown)
	}
	shownOwners.of[key] = scale.Owner
	scaleOwner.WithLabelValues(key.Namespace, key.Name, scale.Owner).Set(1)
}

// forgetScaleOwner is for an MCPServer that is gone.
func forgetScaleOwner(server types.NamespacedName) {
	shownOwners.Lock()
	defer shownOwners.Unlock()
	if shown, isShown := shownOwners.of[server]; isShown {
		scaleOwner.DeleteLabelValues(server.Namespace, server.Name, shown)
		delete(shownOwners.of, server)
	}
}
