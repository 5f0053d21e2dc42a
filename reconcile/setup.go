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
	"sigs.k8s.io/controller-runtime/pkg/source"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// The permissions of the operator: only what a pass reads and writes. They do not include Secrets.
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
	// settleAfter is the time after which a pass is repeated if it wrote something or if the cache was stale. Usually a
	// watch event triggers the next pass sooner. The timer is for a watch event that arrived before the end of the pass.
	settleAfter = time.Second

	// Failed passes are retried after retryFirst, doubling up to retryMost. The cause, such as a quota, an admission
	// webhook or a restart of the API server, is often gone within minutes.
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Minute
)

// SetupWithManager adds the controller and its metrics to a manager. Concurrency is how many MCPServers of one namespace are reconciled at the
// same time. It must be at least 1. One further worker serves other namespaces.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, concurrency int) error {
	if err := observe.IndexAutoscalers(ctx, mgr); err != nil {
		return err
	}
	if err := observe.IndexPods(ctx, mgr); err != nil {
		return err
	}
	build := ctrl.NewControllerManagedBy(mgr).
		Named("mcpserver").
		For(&v1beta1.MCPServer{}, builder.WithPredicates(specOrMetadataChanged)).
		Watches(&v1beta1.MCPServer{}, missedHandler).
		Watches(&v1beta1.MCPServer{}, statusHandler, builder.WithPredicates(statusChangedByOthers)).
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
			MaxConcurrentReconciles: concurrency + 1,
			NewQueue:                newFairQueue(concurrency, mgr.GetLogger()),
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
				retryFirst, retryMost),
		})
	if r.ReadImage != nil {
		r.images = newImages(r.ReadImage)
		build.WatchesRawSource(source.Func(r.images.watch))
		if err := mgr.Add(r.images); err != nil {
			return fmt.Errorf("adding the look-up of images: %w", err)
		}
	}
	if err := build.Complete(r); err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	if err := metrics.Registry.Register(collector{cache: mgr.GetClient()}); err != nil {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	return nil
}
