package e2e

import (
	"context"
	"strings"
	"testing"
)

// TestThePluginAudits verifies that the audit reads all versions of the API, before the CRD is replaced.
func TestThePluginAudits(t *testing.T) {
	testEnv.Test(t, feature("audit").
		Setup(all(storedByAnotherCRD(withField("v1beta1", "oidcConfigRef", "{name: o}")))).
		Assess("names the refused field", plugin(exitFound, []string{"spec.oidcConfigRef", "refused"}, "audit")).
		Assess("of one MCPServer", plugin(exitFound, []string{"spec.oidcConfigRef"}, "audit", server)).
		Assess("of all namespaces", step(func(ctx context.Context, t *testing.T) {
			code, stdout, stderr, err := theCluster.Plugin(ctx, "development", "", "audit", "-A")
			must(t, err)
			if code != exitFound || !containsAll(stdout, []string{in(ctx), "spec.oidcConfigRef"}) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})).
		Assess("of an MCPServer that does not exist", plugin(exitError, []string{`no MCPServer "other"`}, "audit", "other")).
		Feature())
	testEnv.Test(t, feature("audit of a manifest that is carried out").
		Setup(apply(undeclared)).
		Assess("finds nothing", plugin(exitOK, []string{"1 MCPServer: all fields are carried out"}, "audit")).
		Feature())
}

// TestThePluginReadsAClusterThatServesOnlyTheOlderVersion: some clusters still have ToolHive's first CRD. The audit comes before the CRD is replaced.
func TestThePluginReadsAClusterThatServesOnlyTheOlderVersion(t *testing.T) {
	testEnv.Test(t, feature("a CRD with v1alpha1 only").
		Setup(all(operatorStops(), afterwards(kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)), otherCRD("v1alpha1", "v1alpha1"),
			apply(strings.Replace(withField("v1alpha1", "tools", "[a]"), "{name: web}", "{name: web, finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}", 1)))).
		Assess("the audit reads it", plugin(exitFound, []string{"web", "spec.tools", "refused"}, "audit")).
		Assess("its names are completed", completes([]string{"web"}, "audit", "")).
		Assess("the takeover says that the CRD comes first", plugin(exitError, []string{"does not serve MCPServers in version v1beta1", "replace the CRD first", "audit works before"}, "takeover", "web", "--dry-run")).
		Assess("and so does the plan", plugin(exitError, []string{"replace the CRD first"}, "plan", "web")).
		Feature())
}
