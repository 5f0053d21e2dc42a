package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// operatorWithRunner replaces the operator of the suite by one that puts the runner of an image in front of servers.
func operatorWithRunner(image string, args ...string) features.Func {
	return operatorIsReplaced(func(ctx context.Context) (*cluster.Operator, error) {
		return theCluster.StartOperator(ctx, append([]string{"--zap-log-level=5", "--runner-image=" + image}, args...)...)
	})
}

const httpServer = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", transport: streamable-http, mcpPort: 9000}
`

// TestTheRunnerComesWithTheNextRollout verifies that neither the first runner nor a new version restarts a pod, that the runner comes with the next
// change of the pod template or on request, and that changes of others to its container survive.
func TestTheRunnerComesWithTheNextRollout(t *testing.T) {
	const (
		first, second = "registry.example/operator:1", "registry.example/operator:2"
		runner        = `.spec.template.spec.containers[?(@.name=="runner")].image`
		affinity      = ".spec.sessionAffinity"
	)
	var pods []types.UID
	remember := podsAreRemembered(&pods)
	samePods := podsAreStill(&pods)
	testEnv.Test(t, feature("a runner").
		Setup(all(apply(httpServer), scaleIs(1), kubectl("scale", "statefulset", "web", "--replicas=2"), scaleIs(2), podsAreReady(2), remember)).
		Assess("of an upgraded operator changes no pod", all(operatorWithRunner(first),
			conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision", "revision 3-", "readinessProbe"), passesAreForced(2), samePods,
			eventuallyPrints("", "statefulset/web", runner), eventuallyPrints("ClientIP", "service/mcp-web-proxy", affinity))).
		Assess("comes with another image of the server, and the Service needs no affinity", all(imageChanges("registry.example/server:2"),
			eventuallyPrints(first, "statefulset/web", runner), eventuallyPrints("None", "service/mcp-web-proxy", affinity),
			conditionIsGone(v1beta1.ConditionUpdateAvailable), scaleIs(2), podsAreReady(2))).
		Assess("keeps what others set in its container", all(kubectl("set", "env", "statefulset/web", "-c", "runner", "LEVEL=debug"), passesAreForced(2),
			eventuallyPrints("debug", "statefulset/web", `.spec.template.spec.containers[?(@.name=="runner")].env[?(@.name=="LEVEL")].value`), podsAreReady(2), remember)).
		Assess("of another version changes no pod", all(operatorWithRunner(second),
			conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision", "image"), passesAreForced(2), samePods, eventuallyPrints(first, "statefulset/web", runner))).
		Assess("comes on request, with the command in the message", all(step(func(ctx context.Context, t *testing.T) {
			message := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionUpdateAvailable).Message
			wanted := regexp.MustCompile(v1beta1.UpdatePodTemplateAnnotation + `=(\S+)`).FindString(message)
			kubectl("annotate", "mcpserver", "web", wanted)(ctx, t, nil)
		}), eventuallyPrints(second, "statefulset/web", runner), scaleIs(2))).
		Assess("and does not come with Direct", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"sessions":{"mode":"Direct"}}}`),
			eventuallyPrints("ClientIP", "service/mcp-web-proxy", affinity), eventuallyPrints("mcp", "statefulset/web", ".spec.template.spec.containers[0].ports[0].name"))).
		Feature())
}

// runnerHas returns a step that waits until the runner has exactly these flags among those that begin with one of the prefixes.
func runnerHas(prefixes []string, flags ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the flags of the runner", func(ctx context.Context) (string, bool) {
			containers := statefulSet(ctx, t).Spec.Template.Spec.Containers
			at := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == "runner" })
			if at < 0 {
				return "no runner", false
			}
			got := slices.DeleteFunc(slices.Clone(containers[at].Command), func(flag string) bool {
				return !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(flag, prefix) })
			})
			return fmt.Sprint(containers[at].Command), slices.Equal(got, flags)
		})
	})
}

// TestTheAuditIsCarriedOut verifies that the runner gets its flags, and that they go with the field.
func TestTheAuditIsCarriedOut(t *testing.T) {
	command := func(flags ...string) features.Func { return runnerHas([]string{"--audit"}, flags...) }
	audit := func(value string) features.Func {
		return kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"audit":`+value+`}}`)
	}
	testEnv.Test(t, feature("audit").
		Setup(all(operatorWithRunner("registry.example/operator:1"), apply(httpServer), scaleIs(1), podsAreReady(1))).
		Assess("is off by default", command()).
		Assess("is on if it is asked for", all(audit(`{"enabled":true}`), command("--audit"), podsAreReady(1))).
		Assess("has the content of requests only if it is asked for", all(audit(`{"includeArguments":true,"includeResults":true}`),
			command("--audit", "--audit-arguments", "--audit-results"), podsAreReady(1))).
		Assess("goes with the field", all(audit("null"), command(), podsAreReady(1))).
		Feature())
}

// TestAServerWithTheTransportSSEGetsARunner verifies that the runner serves HTTP+SSE, and that the Service then needs no affinity.
func TestAServerWithTheTransportSSEGetsARunner(t *testing.T) {
	testEnv.Test(t, feature("sse").
		Setup(all(operatorWithRunner("registry.example/operator:1"), apply(strings.ReplaceAll(httpServer, "streamable-http", "sse")), scaleIs(1), podsAreReady(1))).
		Assess("has a runner", all(runnerHas([]string{"--sse", "--upstream"}, "--sse", "--upstream=http://127.0.0.1:9000/sse"),
			eventuallyPrints("None", "service/mcp-web-proxy", ".spec.sessionAffinity"), step(func(ctx context.Context, t *testing.T) {
				if url := mcpServer(ctx, t).Status.URL; !strings.HasSuffix(url, "/sse") {
					t.Errorf("the URL is %s", url)
				}
			}))).
		Assess("and scales", all(kubectl("scale", "statefulset", "web", "--replicas=2"), scaleIs(2), podsAreReady(2))).
		Feature())
}

// TestAStdioServerWithoutACommand verifies, with an operator that looks up no images, that the message has the patch, and that the server then gets a
// runner in front of its command. If the command is lost, only the pod template stays as it is.
func TestAStdioServerWithoutACommand(t *testing.T) {
	testEnv.Test(t, feature("a stdio server without a command").
		Setup(all(operatorWithRunner("registry.example/operator:1", "--image-lookup=false"), apply(undeclared))).
		Assess("is stalled, with the patch", conditionSays(v1beta1.ConditionStalled, "CommandUnknown", "--image-lookup", "spec.command", "kubectl -n", "--type=merge")).
		Assess("runs when it has one", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"command":["server","--stdio"]}}`),
			scaleIs(1), conditionIsGone(v1beta1.ConditionStalled), podsAreReady(1), step(func(ctx context.Context, t *testing.T) {
				command := statefulSet(ctx, t).Spec.Template.Spec.Containers[0].Command
				if fmt.Sprint(command[len(command)-3:]) != "[-- server --stdio]" {
					t.Errorf("the command is %q", command)
				}
			}))).
		Assess("a command that is lost changes nothing that runs", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"command":null}}`),
			conditionSays(v1beta1.ConditionStalled, "CommandUnknown", "its pods keep running"), passesAreForced(2), podsAreReady(1))).
		Assess("and the rest still follows the MCPServer", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"replicas":2,"podDisruptionBudget":{"maxUnavailable":1},`+
				`"resourceOverrides":{"statefulSet":{"labels":{"team":"a"}}},"service":{"type":"NodePort"}}}`),
			podsAreReady(2), eventuallyPrints("a", "statefulset/web", ".metadata.labels.team"), eventuallyPrints("NodePort", "service/mcp-web-proxy", ".spec.type"),
			eventuallyPrints("1", "poddisruptionbudget/mcp-web", ".spec.maxUnavailable"), step(func(ctx context.Context, t *testing.T) {
				command := statefulSet(ctx, t).Spec.Template.Spec.Containers[0].Command
				if fmt.Sprint(command[len(command)-3:]) != "[-- server --stdio]" {
					t.Errorf("the command is %q", command)
				}
			}), conditionSays(v1beta1.ConditionStalled, "CommandUnknown"))).
		Feature())
}
