package status

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mcpserver-operator/crd/v1alpha1"
)

// progressAfter is how long a report waits that says no more than how far a rollout is, and what its pods lack. The
// StatefulSet controller writes several times for each pod, and most pods are ready within this time, so that the next
// report is that all is ready, which does not wait. Without it a third to a half of all writes would be such counts.
const progressAfter = 5 * time.Second

// Progress remembers since when a report of progress waits. It is kept in memory: an operator that restarts lets
// it wait anew.
type Progress struct {
	mutex sync.Mutex
	since map[types.NamespacedName]time.Time
}

// Postpone returns how long a report has to wait; zero means that it is due.
func (r *Progress) Postpone(
	server types.NamespacedName, last, next *v1alpha1.MCPServerStatus, now time.Time,
) time.Duration {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !isProgressOnly(last, next) {
		delete(r.since, server)
		return 0
	}
	since, waits := r.since[server]
	if !waits {
		if r.since == nil {
			r.since = map[types.NamespacedName]time.Time{}
		}
		r.since[server] = now
		return progressAfter
	}
	return min(max(since.Add(progressAfter).Sub(now), 0), progressAfter) // a clock may be set back
}

// Forget is for an MCPServer that was reported on, or is gone.
func (r *Progress) Forget(server types.NamespacedName) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.since, server)
}

// isProgressOnly reports whether two statuses differ, and only in how far the same rollout is.
func isProgressOnly(last, next *v1alpha1.MCPServerStatus) bool {
	if !isRollingOut(last) || !isRollingOut(next) || equality.Semantic.DeepEqual(last, next) {
		return false
	}
	as := next.DeepCopy()
	as.Replicas, as.ReadyReplicas, as.Ready = last.Replicas, last.ReadyReplicas, last.Ready
	for _, told := range last.Conditions {
		if told.Type != v1alpha1.ConditionReady && told.Type != v1alpha1.ConditionReconciling {
			continue
		}
		if condition := apimeta.FindStatusCondition(as.Conditions, told.Type); condition != nil && condition.Status == told.Status {
			condition.Reason, condition.Message = told.Reason, told.Message
		}
	}
	return equality.Semantic.DeepEqual(last, as)
}

// isRollingOut reports whether a status says that all goes well, but is not done yet.
func isRollingOut(status *v1alpha1.MCPServerStatus) bool {
	reconciling := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReconciling)
	return reconciling != nil && reconciling.Status == metav1.ConditionTrue &&
		slices.Contains([]string{reasonProgressing, reasonPodsNotReady}, reconciling.Reason)
}
