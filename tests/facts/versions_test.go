package facts

import (
	"slices"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/ownership"
)

// The facts in this file differ between supported Kubernetes versions. Each test covers the behavior before and after the change.

// isAtLeast reports whether the API server has at least the given Kubernetes version.
func isAtLeast(t *testing.T, minimum string) bool {
	t.Helper()
	is, err := theCluster.IsAtLeast(minimum)
	must(t, err)
	return is
}

// TestTheMinimumOfAnAutoscalerMayBeZero: HPAScaleToZero is enabled by default since 1.37. See tests/autoscaling for the behavior of the
// controller.
func TestTheMinimumOfAnAutoscalerMayBeZero(t *testing.T) {
	metric := func(spec *autoscalingv2ac.MetricSpecApplyConfiguration) error {
		return theCluster.Client.Apply(t.Context(), autoscalingv2ac.HorizontalPodAutoscaler(nameOf(t), "default").WithSpec(
			autoscalingv2ac.HorizontalPodAutoscalerSpec().
				WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().WithAPIVersion("apps/v1").WithKind("StatefulSet").WithName("a")).
				WithMinReplicas(0).WithMaxReplicas(3).WithMetrics(spec)), client.FieldOwner(manager))
	}
	target := autoscalingv2ac.MetricTarget().WithType(autoscalingv2.AverageValueMetricType).WithAverageValue(resource.MustParse("1"))
	external := autoscalingv2ac.MetricSpec().WithType(autoscalingv2.ExternalMetricSourceType).WithExternal(
		autoscalingv2ac.ExternalMetricSource().WithMetric(autoscalingv2ac.MetricIdentifier().WithName("waiting")).WithTarget(target))
	cpu := autoscalingv2ac.MetricSpec().WithType(autoscalingv2.ResourceMetricSourceType).WithResource(
		autoscalingv2ac.ResourceMetricSource().WithName("cpu").WithTarget(target))

	if err := metric(cpu); !apierrors.IsInvalid(err) {
		t.Errorf("without a metric that exists without pods: %v", err)
	}
	err := metric(external)
	if !isAtLeast(t, "1.37") {
		if !apierrors.IsInvalid(err) {
			t.Errorf("before 1.37: %v", err)
		}
		return
	}
	must(t, err)
}

// TestMaxUnavailableOfAStatefulSet: MaxUnavailableStatefulSet is enabled by default since 1.37. Earlier API servers drop the field but
// still record its owner, so an applier cannot detect the loss from the fields that it owns.
func TestMaxUnavailableOfAStatefulSet(t *testing.T) {
	path := fieldpath.MakePathOrDie("spec", "updateStrategy", "rollingUpdate", "maxUnavailable")
	is := isAtLeast(t, "1.37")

	must(t, apply(t, manager, set(t, 1)))
	strategy := get(t).Spec.UpdateStrategy.RollingUpdate
	if is && (strategy.MaxUnavailable == nil || *strategy.MaxUnavailable != intstr.FromInt32(1)) {
		t.Errorf("the default is %v", strategy.MaxUnavailable)
	}
	if !is && strategy.MaxUnavailable != nil {
		t.Errorf("before 1.37, the field has a default: %v", strategy.MaxUnavailable)
	}
	if slices.Contains(ownersOf(t, path), manager) {
		t.Error("the applier that left the field out owns the default")
	}

	config := set(t, 1)
	config.Spec.WithUpdateStrategy(appsv1ac.StatefulSetUpdateStrategy().WithRollingUpdate(
		appsv1ac.RollingUpdateStatefulSetStrategy().WithMaxUnavailable(intstr.FromInt32(2))))
	must(t, apply(t, manager, config))
	strategy = get(t).Spec.UpdateStrategy.RollingUpdate
	if is && (strategy.MaxUnavailable == nil || *strategy.MaxUnavailable != intstr.FromInt32(2)) {
		t.Errorf("the applied value is %v", strategy.MaxUnavailable)
	}
	if !is && strategy.MaxUnavailable != nil {
		t.Errorf("before 1.37, the field is kept: %v", strategy.MaxUnavailable)
	}
	if !slices.Contains(ownersOf(t, path), manager) {
		t.Errorf("the field is owned by %v", ownersOf(t, path))
	}
}

func ownersOf(t *testing.T, path fieldpath.Path) []string {
	t.Helper()
	owners, err := ownership.OwnersOf(get(t), path)
	must(t, err)
	var names []string
	for _, owner := range owners {
		names = append(names, owner.Name)
	}
	return names
}
