// Package reconcile brings the children of an MCPServer to what it asks for, with server-side apply only, and reports
// on it. A pass goes one way: observe, decide, apply, report.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// The permissions of the operator: what a pass reads and writes, and nothing else. Secrets are not among them.
//
// +kubebuilder:rbac:groups=toolhive.stacklok.dev,resources=mcpservers,verbs=get;list;watch
// +kubebuilder:rbac:groups=toolhive.stacklok.dev,resources=mcpservers/status,verbs=patch
// +kubebuilder:rbac:groups=toolhive.stacklok.dev,resources=mcpservers/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=list;create;patch

const (
	// settleAfter is when a pass is repeated that wrote something or met a newer version of an object than the cache
	// had. Its watch event nearly always repeats the pass sooner; this is for the case that the event came before.
	settleAfter = time.Second

	// Failed passes are repeated after retryFirst, doubling to retryMost: what makes one fail, such as a quota, an
	// admission webhook or an API server that restarts, is often gone within minutes.
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Minute
)

// Reconciler reconciles MCPServers. All exported fields but Cluster are required.
type Reconciler struct {
	// Client reads from the cache and writes to the API server.
	Client client.Client
	// APIReader reads from the API server, where a decision may not rest on a cache that lags.
	APIReader client.Reader
	// Recorder records the events of MCPServers.
	Recorder events.EventRecorder
	// Cluster is what the pods depend on besides their MCPServer. Its IPFamily is not used: each pass reads that of the Services.
	Cluster applyconfigs.Cluster
	// Now is the clock.
	Now func() time.Time

	settled      settledChildren
	fights       fieldFights
	progress     progressReports
	statusWrites statusWrites
	asked        askedEvents
}

// SetupWithManager adds the controller to a manager. Concurrency is how many MCPServers are reconciled at a time, at
// least 1.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, concurrency int) error {
	if err := indexAutoscalers(ctx, mgr); err != nil {
		return err
	}
	if err := indexPods(ctx, mgr); err != nil {
		return err
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("mcpserver").
		For(&v1alpha1.MCPServer{}, builder.WithPredicates(specOrMetadataChanged)).
		Watches(&v1alpha1.MCPServer{}, statusHandler, builder.WithPredicates(statusChangedByOthers)).
		Watches(&appsv1.StatefulSet{}, childHandler).
		Watches(&corev1.Service{}, childHandler).
		Watches(&corev1.ServiceAccount{}, childHandler).
		Watches(&networkingv1.NetworkPolicy{}, childHandler).
		Watches(&policyv1.PodDisruptionBudget{}, childHandler,
			builder.WithPredicates(predicate.Or(specOrMetadataChanged, ownersChanged))).
		Watches(&corev1.Pod{}, reportHandler(serverOfPod), builder.WithPredicates(podChanged)).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, reportHandler(serversOfAutoscaler),
			builder.WithPredicates(autoscalerChanged)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: concurrency,
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
				retryFirst, retryMost),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	return nil
}

// Reconcile makes one pass over one MCPServer.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	server := &v1alpha1.MCPServer{}
	if err := r.Client.Get(ctx, request.NamespacedName, server); err != nil {
		if apierrors.IsNotFound(err) {
			forgetScaleOwner(request.NamespacedName)
			r.progress.forget(request.NamespacedName)
			r.settled.forget(request.NamespacedName)
			r.statusWrites.forget(request.NamespacedName)
			r.asked.forget(request.NamespacedName)
			return reconcile.Result{}, nil // the garbage collector deletes the children
		}
		return reconcile.Result{}, fmt.Errorf("reading the MCPServer: %w", err)
	}
	if !server.DeletionTimestamp.IsZero() {
		return r.reportTerminating(ctx, server)
	}

	pass := pass{server: server, now: metav1.NewTime(r.Now()).Rfc3339Copy(), behind: r.statusWrites.areAhead(server)}
	err := r.observe(ctx, &pass)
	if isStale(err) {
		return repeatAfter(settleAfter, 0), nil
	}
	if err == nil {
		pass.verdict = decideScale(pass.scaleInput())
		err = r.apply(ctx, &pass)
	}
	if isTerminating(err) {
		return reconcile.Result{}, nil // the namespace goes, and the MCPServer with it
	}
	switch {
	case err == nil && pass.hasMoreToWrite():
		return repeatAfter(settleAfter, 0), nil
	case err == nil && pass.isOutdated():
		return repeatAfter(settleAfter, reportPriority), nil
	}
	next := settleAfter
	reportErr := r.report(ctx, &pass, err)
	if !isStale(reportErr) {
		err, next = errors.Join(err, reportErr), pass.nextLook()
	}
	if err != nil {
		return reconcile.Result{Priority: ptr.To(reportPriority)}, err // repeated by the rate limiter
	}
	return repeatAfter(next, reportPriority), nil
}

// repeatAfter asks for another pass after some time; zero means that there is no need.
func repeatAfter(after time.Duration, priority int) reconcile.Result {
	return reconcile.Result{RequeueAfter: after, Priority: &priority}
}

// pass is what one pass saw and did.
type pass struct {
	server *v1alpha1.MCPServer
	// now is the time of the pass in whole seconds, as it reads back from the server.
	now         metav1.Time
	children    children
	autoscalers autoscalers
	// refusals are the objects of a child's name that are not ours.
	refusals []refusal
	// fixed are the fields of the StatefulSet that follow it once it exists.
	fixed   applyconfigs.Fixed
	verdict scaleVerdict
	// stale is true when the API server holds another version of something than the cache.
	stale bool
	// wrote is true when a child was changed, wroteStatefulSet when it was the StatefulSet.
	wrote, wroteStatefulSet bool
	// postponed is how long the report of mere progress waits still.
	postponed time.Duration
	// reported is true when the status was written, behind when the cache does not show yet what an earlier pass wrote to it.
	// Such a pass may find nothing to write where there is, so that there has to be one more.
	reported, behind bool
	// migrated is true when a child was taken over from another operator; it is applied with the next pass.
	migrated bool
	// fights say which fields of children are fought over, and retryAt is when to put the first of them back.
	fights  []string
	retryAt time.Time
}

// hasMoreToWrite reports whether the pass has left something to the next one: the cache was behind, a child was taken over,
// or the scale was released, and the apply comes when that is seen.
func (p *pass) hasMoreToWrite() bool {
	return p.stale || p.migrated || (p.wroteStatefulSet && p.verdict.Action == scaleRelease)
}

// isOutdated reports whether the next pass, which is due at once, has more to report than this one: the StatefulSet was
// created, or its scale changed, which the status remembers already.
func (p *pass) isOutdated() bool {
	return p.wroteStatefulSet && (p.children.statefulSet == nil || p.verdict.writesScale())
}

// nextLook is when to make another pass that no watch may ask for: after a write, while a deleted StatefulSet waits for its
// pods, when a report is due that waits, when time alone tells that a pod does not work, or in a fight, to take the scale back
// after a delay or to say that it is over. Zero for never.
func (p *pass) nextLook() time.Duration {
	if p.wrote || p.reported || p.behind || len(p.children.stray) > 0 {
		return settleAfter
	}
	look := p.nextLookAtFights()
	for _, other := range []time.Duration{p.postponed, p.children.pods.lookAgain} {
		if other > 0 && (look == 0 || other < look) {
			look = other
		}
	}
	return look
}

func (p *pass) nextLookAtFights() time.Duration {
	at := p.retryAt
	if scale := p.server.Status.Scale; scale != nil && isFight(scale.TakeBacks, p.now.Time) {
		overScale := fightEnds(scale.TakeBacks)
		if p.verdict.Action == scaleBackOff {
			overScale = p.verdict.RetryAt
		}
		if at.IsZero() || overScale.Before(at) {
			at = overScale
		}
	}
	if at.IsZero() {
		return 0
	}
	return max(at.Sub(p.now.Time), settleAfter)
}
