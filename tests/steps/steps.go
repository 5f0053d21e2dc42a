// Package steps has what all suites of features share: a namespace for each feature, what is undone at the end of a feature, and steps with kubectl.
package steps

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
)

type featureKey struct{}

// feature is what the steps of a feature need.
type feature struct {
	test      *testing.T // of the feature, not of an assessment, which ends earlier
	cluster   *cluster.Cluster
	namespace string
}

func of(ctx context.Context) feature { return ctx.Value(featureKey{}).(feature) }

// In returns the namespace of the feature.
func In(ctx context.Context) string { return of(ctx).namespace }

// Feature starts a feature in a new namespace, whose name begins with a prefix and which enforces a Pod Security Standard. When the feature ends, its objects
// are printed if it has failed, and the namespace is deleted. The steps last follow.
func Feature(c *cluster.Cluster, name, prefix, standard string, last ...features.Func) *features.FeatureBuilder {
	return features.New(name).Setup(func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
		t.Helper()
		f := feature{test: t, cluster: c}
		afterwards(context.WithValue(ctx, featureKey{}, f), All(last...))
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			GenerateName: prefix, Labels: map[string]string{"pod-security.kubernetes.io/enforce": standard},
		}}
		cluster.Must(t, c.Client.Create(ctx, namespace))
		f.namespace = namespace.Name
		ctx = context.WithValue(ctx, featureKey{}, f)
		afterwards(ctx, Step(func(ctx context.Context, t *testing.T) {
			if t.Failed() {
				out, _ := c.Kubectl(ctx, "-n", namespace.Name, "get", "mcpservers,statefulsets,pods,events", "-o", "wide")
				t.Log(out)
			}
			cluster.Must(t, c.Client.Delete(ctx, namespace, client.PropagationPolicy(metav1.DeletePropagationForeground)))
		}))
		return ctx
	})
}

// Afterwards registers a step for the end of the feature. The step that was registered last runs first. A feature registers it before the change that it
// undoes, and not with Teardown, because the framework does not run Teardown after a failure: the tests that follow would fail as well.
func Afterwards(undo features.Func) features.Func {
	return Step(func(ctx context.Context, _ *testing.T) { afterwards(ctx, undo) })
}

func afterwards(ctx context.Context, undo features.Func) {
	t := of(ctx).test
	t.Cleanup(func() { undo(context.WithoutCancel(ctx), t, nil) })
}

// Step converts a function to a features.Func and omits the parameters that most steps do not need.
func Step(do func(ctx context.Context, t *testing.T)) features.Func {
	return func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
		t.Helper()
		do(ctx, t)
		return ctx
	}
}

// All runs steps one after the other.
func All(steps ...features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		for _, do := range steps {
			ctx = do(ctx, t, config)
		}
		return ctx
	}
}

// Kubectl runs kubectl in the namespace of the feature.
func Kubectl(args ...string) features.Func {
	return Step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := of(ctx).cluster.Kubectl(ctx, append([]string{"-n", In(ctx)}, args...)...)
		cluster.Must(t, err)
	})
}

// ClusterKubectl runs kubectl without a namespace flag.
func ClusterKubectl(args ...string) features.Func {
	return Step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := of(ctx).cluster.Kubectl(ctx, args...)
		cluster.Must(t, err)
	})
}

// ClusterApply applies cluster-scoped objects.
func ClusterApply(manifest string) features.Func {
	return Step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := of(ctx).cluster.KubectlWithInput(ctx, manifest, "apply", "--server-side", "-f", "-")
		cluster.Must(t, err)
	})
}
