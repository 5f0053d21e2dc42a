package steps

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
)

// failsIn is an environment variable that lets TestAFeature fail, in another process.
const failsIn = "STEPS_TEST_FAILS_IN"

// TestAFeatureUndoesItsChanges verifies the order, and that nothing is left out if the setup or an assessment fails: the framework leaves out Teardown then.
func TestAFeatureUndoesItsChanges(t *testing.T) {
	for _, where := range []string{"", "setup", "assessment"} {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAFeature$", "-test.v")
		command.Env = append(os.Environ(), failsIn+"="+where)
		out, err := command.CombinedOutput()
		if (err != nil) != (where != "") {
			t.Errorf("failing in %q: %v", where, err)
		}
		want := []string{"undone: assessment", "undone: setup", "namespaces: 0"}
		if where == "setup" {
			want = want[1:]
		}
		if got := regexp.MustCompile(`undone: \w+|namespaces: \d`).FindAllString(string(out), -1); !slices.Equal(got, want) {
			t.Errorf("failing in %q: got %q, want %q:\n%s", where, got, want, out)
		}
	}
}

// TestAFeature runs a feature for TestAFeatureUndoesItsChanges.
func TestAFeature(t *testing.T) {
	where, is := os.LookupEnv(failsIn)
	if !is {
		return
	}
	c := &cluster.Cluster{Client: fake.NewClientBuilder().Build()}
	changes := func(what string) features.Func {
		return All(Afterwards(Step(func(context.Context, *testing.T) { fmt.Println("undone:", what) })), Step(func(_ context.Context, t *testing.T) {
			if what == where {
				t.Fatal("on purpose")
			}
		}))
	}
	environment := env.NewWithConfig(envconf.New().WithFailFast())
	environment.Test(t, Feature(c, "it", "steps-", "restricted", Step(func(ctx context.Context, t *testing.T) {
		var left corev1.NamespaceList
		cluster.Must(t, c.Client.List(ctx, &left))
		fmt.Println("namespaces:", len(left.Items))
	})).Setup(changes("setup")).Assess("changes something", changes("assessment")).Feature())
}
