package reconcile

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
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

// SetupWithManager adds the controller and its metrics to a manager. Concurrency is how many MCPServers are reconciled at a time, at
// least 1.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, concurrency int) error {
	if err := observe.IndexAutoscalers(ctx, mgr); err != nil {
		return err
	}
	if err := observe.IndexPods(ctx, mgr); err != nil {
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
			builder.WithPredicates(predicate.Or(specOrMetadataChanged, ownersChanged, ownershipLost))).
		Watches(&corev1.Pod{}, reportHandler(observe.ServerOfPod), builder.WithPredicates(observe.PodChanged)).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, reportHandler(observe.ServersOfAutoscaler),
			builder.WithPredicates(observe.AutoscalerChanged)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: concurrency,
			NewQueue:                newFairQueue(concurrency, mgr.GetLogger()),
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
				retryFirst, retryMost),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	if err := metrics.Registry.Register(collector{cache: mgr.GetClient()}); err != nil {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	return nil
}
