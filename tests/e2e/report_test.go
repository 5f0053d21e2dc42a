package e2e

import (
	_ "embed"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// report is the manifest of the bug report, byte for byte.
//
//go:embed testdata/report.yaml
var report string

// TestReport verifies the behavior that the bug report asks for.
func TestReport(t *testing.T) {
	const name = "my-mcp-server"
	waitReady := func(replicas string) features.Func {
		return all(
			kubectl("wait", "--for=jsonpath={.status.ready}="+replicas+"/"+replicas, "--timeout=90s", "mcpserver/"+name),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/"+name),
			printed([]string{replicas}, "get", "statefulset", name, "-o", "jsonpath={.status.readyReplicas}"),
		)
	}
	testEnv.Test(t, feature("the report's manifest, unchanged").
		Assess("3 pods are ready", all(apply(report), waitReady("3"))).
		Assess("kubectl get mcpservers shows the scale", printed([]string{
			"NAME", "READY", "REPLICAS", "SCALE OWNER", "URL", "AGE", name, "3/3", "MCPServer",
			"http://mcp-my-mcp-server-proxy.", ".svc:8080/mcp",
		}, "get", "mcpservers")).
		Assess("the short name and the category work",
			all(printed([]string{name}, "get", "mcp"), printed([]string{name}, "get", "toolhive"))).
		Assess("manual scaling is not reverted", all(
			kubectl("scale", "statefulset", name, "--replicas=5"), waitReady("5"))).
		Feature())
}

// TestExplain verifies that kubectl explain documents spec.replicas.
func TestExplain(t *testing.T) {
	testEnv.Test(t, feature("kubectl explain mcpserver.spec.replicas").
		Assess("says what happens when it is set, unset and removed",
			printed([]string{"Set:", "Unset:", "Removed after it was set:"}, "explain", "mcpserver.spec.replicas")).
		Feature())
}
