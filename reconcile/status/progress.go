package status

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mcpserver-operator/crd/v1beta1"
)

// progressAfter is how long the operator delays a report that only has the progress of a rollout. The StatefulSet controller writes
// several times for each pod, and most pods are ready within this time. Then the next report is that all pods are ready, which is not
// delayed. Without the delay, a third to a half of all writes would be progress reports.
const progressAfter = 5 * time.Second

// Progress remembers since when a progress report is delayed. It is kept in memory: after a restart of the operator the delay starts
// again.
type Progress struct {
	mutex sync.Mutex
	since map[types.NamespacedName]time.Time
}

// Postpone returns how long to delay a report; zero if the report is due.
func (r *Progress) Postpone(
	server types.NamespacedName, last, next *v1beta1.MCPServerStatus, now time.Time,
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
	return min(max(since.Add(progressAfter).Sub(now), 0), progressAfter) // the clock may be set back
}

// Forget forgets an MCPServer after a report or after its deletion.
func (r *Progress) Forget(server types.NamespacedName) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.since, server)
}

// isProgressOnly reports whether two statuses differ only in the progress of the same rollout.
func isProgressOnly(last, next *v1beta1.MCPServerStatus) bool {
	if !isRollingOut(last) || !isRollingOut(next) || equality.Semantic.DeepEqual(last, next) {
		return false
	}
	as := next.DeepCopy()
	as.Replicas, as.ReadyReplicas, as.Ready = last.Replicas, last.ReadyReplicas, last.Ready
	for _, told := range last.Conditions {
		if told.Type != v1beta1.ConditionReady && told.Type != v1beta1.ConditionReconciling {
			continue
		}
		if condition := apimeta.FindStatusCondition(as.Conditions, told.Type); condition != nil && condition.Status == told.Status {
			condition.Reason, condition.Message = told.Reason, told.Message
		}
	}
	return equality.Semantic.DeepEqual(last, as)
}

// isRollingOut reports whether a status is that of a rollout without problems that is not complete.
func isRollingOut(status *v1beta1.MCPServerStatus) bool {
	reconciling := apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionReconciling)
	return reconciling != nil && reconciling.Status == metav1.ConditionTrue &&
		slices.Contains([]string{reasonProgressing, reasonPodsNotReady}, reconciling.Reason)
}
