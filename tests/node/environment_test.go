package node

import (
	"context"
	"testing"
)

// TestAVariableHasTheSecretThatItNames verifies that $(NAME) in env stands for the value of a Secret in secrets, which therefore come first in the pod.
func TestAVariableHasTheSecretThatItNames(t *testing.T) {
	var got struct{ Value string }
	testEnv.Test(t, feature("a variable with a secret", "restricted").
		Setup(kubectl("create", "secret", "generic", "database", "--from-literal=password=hidden")).
		Assess("is expanded", all(
			apply(server("web", serverImage, "args: [-stateless]", "secrets: [{name: database, key: password, targetEnvName: DB_PASSWORD}]",
				`env: [{name: DB_URL, value: "postgres://app:$(DB_PASSWORD)@database/app"}]`)),
			scaleIs("web", 1),
			call("web", "environment", map[string]string{"name": "DB_URL"}, &got),
			step(func(_ context.Context, t *testing.T) {
				if want := "postgres://app:hidden@database/app"; got.Value != want {
					t.Errorf("DB_URL is %q, want %q", got.Value, want)
				}
			}))).
		Feature())
}
