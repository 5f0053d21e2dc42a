package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// full is an MCPServer with every child.
const full = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: "registry.example/server:1"
  transport: streamable-http
  env: [{name: MODE, value: plain}]
  volumes: [{name: scratch, mountPath: /scratch, emptyDir: {}}]
  permissionProfile: {name: none}
`

// foreign is a field that another manager writes, and the way to read it.
type foreign struct {
	what string
	// write contains the arguments of kubectl. If it is empty, manifest is applied with the field manager "injector".
	write    []string
	manifest string
	// kubectl get CHILD -o jsonpath=PATH must print want.
	child, path, want string
}

var foreigners = []foreign{
	{what: "a label", write: []string{"label", "statefulset/web", "team=a"},
		child: "statefulset/web", path: ".metadata.labels.team", want: "a"},
	{what: "an annotation", write: []string{"annotate", "statefulset/web", "note=a"},
		child: "statefulset/web", path: ".metadata.annotations.note", want: "a"},
	{what: "kubectl set env", write: []string{"set", "env", "statefulset/web", "--containers=mcp", "EXTRA=1"},
		child: "statefulset/web", path: `.spec.template.spec.containers[?(@.name=="mcp")].env[?(@.name=="EXTRA")].value`, want: "1"},
	{what: "a sidecar, an init container, a volume and their mounts", manifest: `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  template:
    metadata: {annotations: {injector.example.com/injected: "true"}}
    spec:
      initContainers: [{name: prepare, image: "registry.example/prepare:1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
      containers:
      - {name: sidecar, image: "registry.example/sidecar:1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
      - {name: mcp, volumeMounts: [{name: injected, mountPath: /injected}]}
      volumes: [{name: injected, emptyDir: {}}]
`, child: "statefulset/web",
		path: ".spec.template.spec['initContainers','containers','volumes'][*].name", want: "prepare mcp sidecar scratch injected"},
	{what: "tolerations", manifest: `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec: {template: {metadata: {annotations: {injector.example.com/injected: "true"}}, spec: {
  initContainers: [{name: prepare, image: "registry.example/prepare:1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}],
  containers: [{name: sidecar, image: "registry.example/sidecar:1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}},
    {name: mcp, volumeMounts: [{name: injected, mountPath: /injected}]}],
  volumes: [{name: injected, emptyDir: {}}],
  tolerations: [{key: gpu, operator: Exists}]}}}
`, child: "statefulset/web", path: ".spec.template.spec.tolerations[*].key", want: "gpu"},
	{what: "kubectl rollout restart", write: []string{"rollout", "restart", "statefulset/web"},
		child: "statefulset/web", path: `.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt`},
	{what: "a reloader that rotates a Secret", write: []string{"patch", "statefulset/web", "--field-manager=reloader", "--type=strategic", "-p",
		`{"spec":{"template":{"metadata":{"annotations":{"reloader.example.com/last-reloaded-from":"credentials"}}}}}`},
		child: "statefulset/web", path: `.spec.template.metadata.annotations.reloader\.example\.com/last-reloaded-from`, want: "credentials"},
	{what: "a label of the Service", write: []string{"label", "service/mcp-web-proxy", "team=a"},
		child: "service/mcp-web-proxy", path: ".metadata.labels.team", want: "a"},
	{what: "an annotation for a load balancer", write: []string{"annotate", "service/mcp-web-proxy", "lb.example.com/internal=true"},
		child: "service/mcp-web-proxy", path: `.metadata.annotations.lb\.example\.com/internal`, want: "true"},
	{what: "the type and the node port of the Service", write: []string{"patch", "service/mcp-web-proxy", "--type=strategic", "-p",
		`{"spec":{"type":"NodePort"}}`},
		child: "service/mcp-web-proxy", path: ".spec.ports[?(@.name==\"mcp\")].nodePort"},
	{what: "another port of the Service", write: []string{"patch", "service/mcp-web-proxy", "--type=strategic", "-p",
		`{"spec":{"ports":[{"name":"metrics","port":9100,"protocol":"TCP"}]}}`},
		child: "service/mcp-web-proxy", path: ".spec.ports[*].name", want: "metrics mcp"},
	{what: "an annotation of the headless Service", write: []string{"annotate", "service/mcp-web-headless", "note=a"},
		child: "service/mcp-web-headless", path: ".metadata.annotations.note", want: "a"},
	{what: "a cloud role on the ServiceAccount", write: []string{"annotate", "serviceaccount/mcp-web", "cloud.example.com/role=reader"},
		child: "serviceaccount/mcp-web", path: `.metadata.annotations.cloud\.example\.com/role`, want: "reader"},
	{what: "an image pull secret of the ServiceAccount", write: []string{"patch", "serviceaccount/mcp-web", "--type=strategic", "-p",
		`{"imagePullSecrets":[{"name":"registry"}]}`},
		child: "serviceaccount/mcp-web", path: ".imagePullSecrets[*].name", want: "registry"},
	{what: "a label of the PodDisruptionBudget", write: []string{"label", "poddisruptionbudget/mcp-web", "team=a"},
		child: "poddisruptionbudget/mcp-web", path: ".metadata.labels.team", want: "a"},
	{what: "ingress rules in the NetworkPolicy", manifest: `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mcp-web}
spec: {ingress: [{ports: [{port: 8080}]}]}
`, child: "networkpolicy/mcp-web", path: ".spec.ingress[*].ports[*].port", want: "8080"},
}

// scaledToTwo applies a manifest without replicas and scales its StatefulSet to 2. No component defaults to 2, so the test detects a
// reset.
func scaledToTwo(manifest string) features.Func {
	return all(apply(manifest), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))
}

// TestWhatOthersWriteSurvives verifies on every child that fields of other managers survive passes, changes by the operator and a
// restart, and that the scale stays.
func TestWhatOthersWriteSurvives(t *testing.T) {
	test := feature("fields of other managers").Assess("every child exists", scaledToTwo(full))
	values := map[string]string{}
	for _, f := range foreigners {
		write := kubectl(f.write...)
		if f.manifest != "" {
			write = applyAs("injector", f.manifest)
		}
		test = test.Assess(f.what, holds(2, write, step(func(ctx context.Context, t *testing.T) {
			values[f.what] = valueOf(ctx, t, f)
			if value := values[f.what]; value == "" || (f.want != "" && !sameWords(value, f.want)) {
				t.Fatalf("%s of %s is %q, wanted %q", f.path, f.child, value, f.want)
			}
		})))
	}
	survive := step(func(ctx context.Context, t *testing.T) {
		for _, f := range foreigners {
			if value := valueOf(ctx, t, f); !sameWords(value, values[f.what]) {
				t.Errorf("%s: %s of %s is %q, want %q", f.what, f.path, f.child, value, values[f.what])
			}
		}
	})
	edited := strings.NewReplacer("server:1", "server:2", "plain", "fancy").Replace(full)
	testEnv.Test(t, test.
		Assess("survive passes", holds(2, passesAreForced(3), survive)).
		Assess("survive a new image and a new value of the operator", holds(2,
			apply(edited), imageOfServerIs("registry.example/server:2"), scaleIs(2), survive)).
		Assess("survive a restart of the operator", holds(2, operatorRestarts(), passesAreForced(1), survive)).
		Assess("survive the removal of an environment variable of the operator", holds(2,
			apply(strings.Replace(edited, "env: [{name: MODE, value: fancy}]", "", 1)),
			eventuallyPrints("", "statefulset/web", `.spec.template.spec.containers[?(@.name=="mcp")].env[?(@.name=="MODE")].value`), survive)).
		Feature())
}

// TestAFieldOfOursIsPutBackOnce verifies that the operator restores a field with a single write and without changing the scale. An
// event names the manager that changed the field.
func TestAFieldOfOursIsPutBackOnce(t *testing.T) {
	theCluster.NeedAuditLog(t)
	test := feature("a field of the operator").Assess("every child exists", scaledToTwo(full))
	for _, theirs := range []struct {
		write             []string
		child, path, want string
		resource          string
		says              []string
	}{
		{[]string{"set", "image", "statefulset/web", "mcp=registry.example/other:1"},
			"statefulset/web", `.spec.template.spec.containers[?(@.name=="mcp")].image`, "registry.example/server:1", "statefulsets",
			[]string{"kubectl-set", "image", `StatefulSet "web"`, "declare it in the MCPServer"}},
		{[]string{"set", "env", "statefulset/web", "--containers=mcp", "MODE=other"},
			"statefulset/web", `.spec.template.spec.containers[?(@.name=="mcp")].env[?(@.name=="MODE")].value`, "plain", "statefulsets",
			[]string{"kubectl-set", "MODE", `StatefulSet "web"`}},
		{[]string{"set", "env", "statefulset/web", "--containers=mcp", "MODE-"},
			"statefulset/web", `.spec.template.spec.containers[?(@.name=="mcp")].env[?(@.name=="MODE")].value`, "plain", "statefulsets",
			[]string{"somebody had removed", `env[name="MODE"]`, `StatefulSet "web"`}},
		{[]string{"patch", "service/mcp-web-proxy", "--type=merge", "-p", `{"spec":{"sessionAffinity":"None"}}`},
			"service/mcp-web-proxy", ".spec.sessionAffinity", "ClientIP", "services",
			[]string{"kubectl-patch", "sessionAffinity", `Service "mcp-web-proxy"`}},
		{[]string{"patch", "poddisruptionbudget/mcp-web", "--type=merge", "-p", `{"spec":{"maxUnavailable":0}}`},
			"poddisruptionbudget/mcp-web", ".spec.maxUnavailable", "1", "poddisruptionbudgets",
			[]string{"kubectl-patch", "maxUnavailable", `PodDisruptionBudget "mcp-web"`}},
		{[]string{"patch", "networkpolicy/mcp-web", "--type=merge", "-p", `{"spec":{"egress":[{}]}}`},
			"networkpolicy/mcp-web", ".spec.egress[*].ports[*].port", "53 53", "networkpolicies",
			[]string{"kubectl-patch", "egress", `NetworkPolicy "mcp-web"`}},
		{[]string{"patch", "serviceaccount/mcp-web", "--type=merge", "-p", `{"automountServiceAccountToken":true}`},
			"serviceaccount/mcp-web", ".automountServiceAccountToken", "false", "serviceaccounts",
			[]string{"kubectl-patch", "automountServiceAccountToken", `ServiceAccount "mcp-web"`}},
	} {
		test = test.Assess(strings.Join(theirs.write[:3], " "), step(func(ctx context.Context, t *testing.T) {
			mark, err := theCluster.AuditMark()
			must(t, err)
			holds(2, kubectl(theirs.write...), eventuallyPrints(theirs.want, theirs.child, theirs.path),
				eventSays("FieldTakenBack", theirs.says...), passesAreForced(2))(ctx, t, nil)
			requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
			must(t, err)
			var writes []cluster.Request
			for _, request := range requests {
				if request.IsWrite() && request.Namespace == in(ctx) && request.Resource == theirs.resource && request.Code == http.StatusOK {
					writes = append(writes, request)
				}
			}
			if len(writes) != 1 {
				t.Errorf("want one write, got %v", writes)
			}
		}))
	}
	testEnv.Test(t, test.Feature())
}

// TestARenumberedPortIsPutBack: SSA merges ports by number, so an apply without the old number would leave two ports.
func TestARenumberedPortIsPutBack(t *testing.T) {
	testEnv.Test(t, feature("a port of the operator").
		Assess("exists", scaledToTwo(full)).
		Assess("is restored after its number in the Service changed", holds(2,
			kubectl("patch", "service", "mcp-web-proxy", "--type=json", "-p", `[{"op":"replace","path":"/spec/ports/0/port","value":9090}]`),
			eventuallyPrints("8080", "service/mcp-web-proxy", ".spec.ports[*].port"),
			eventSays("FieldTakenBack", "kubectl-patch", "9090", `Service "mcp-web-proxy"`))).
		Assess("is restored after its number in the container changed", holds(2,
			kubectl("patch", "statefulset", server, "--type=json", "-p",
				`[{"op":"replace","path":"/spec/template/spec/containers/0/ports/0/containerPort","value":9090}]`),
			eventuallyPrints("8080", "statefulset/web", ".spec.template.spec.containers[0].ports[*].containerPort"),
			eventSays("FieldTakenBack", "kubectl-patch", "9090", `StatefulSet "web"`))).
		Assess("is replaced when the MCPServer changes the number", holds(2,
			apply(strings.Replace(full, "transport:", "proxyPort: 80\n  transport:", 1)), childrenAreAsBuilt(),
			eventuallyPrints("80", "service/mcp-web-proxy", ".spec.ports[*].port"),
			eventuallyPrints("80", "statefulset/web", ".spec.template.spec.containers[0].ports[*].containerPort"))).
		Feature())
}

// fightShows repeats a kubectl command until the condition reports a fight with all the given words.
func fightShows(words []string, command ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, "the condition FieldConflict", func(ctx context.Context) (string, bool) {
			kubectl(command...)(ctx, t, nil)
			condition := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionFieldConflict)
			return fmt.Sprint(condition), condition != nil && condition.Reason == "FieldFight" && containsAll(condition.Message, words)
		})
	})
}

// TestAFightOverAField verifies that the operator backs off, instead of replacing pods forever, when another manager keeps writing a
// different value.
func TestAFightOverAField(t *testing.T) {
	testEnv.Test(t, feature("another manager sets the image each time the operator restores it").
		Assess("has two pods", scaledToTwo(undeclared)).
		Assess("the operator restores it, then backs off and names the other manager", holds(2,
			fightShows([]string{"kubectl-set", "image", "declare its value in the MCPServer"}, "set", "image", "statefulset/web", "mcp=registry.example/other:1"),
			eventSays("FieldFight", "kubectl-set", "image"))).
		Assess("the scale stays during the back-off", holds(2, wait(3*time.Second))).
		Assess("the other manager's value stays during the back-off", eventuallyPrints("registry.example/other:1", "statefulset/web", ".spec.template.spec.containers[0].image")).
		Assess("a change of the MCPServer is applied without waiting", holds(2,
			apply(strings.Replace(undeclared, "server:1", "server:2", 1)),
			eventuallyPrints("registry.example/server:2", "statefulset/web", ".spec.template.spec.containers[0].image"),
			conditionIsGone(v1beta1.ConditionFieldConflict))).
		Feature())
}

// TestAFightWithWhoRemovesAField verifies the same for a field that is removed each time. Kubernetes does not record the manager that
// removes a field.
func TestAFightWithWhoRemovesAField(t *testing.T) {
	testEnv.Test(t, feature("another manager removes an environment variable each time the operator restores it").
		Assess("has two pods", scaledToTwo(undeclared)).
		Assess("the operator restores it, then backs off and names the variable", holds(2,
			fightShows([]string{"somebody removes", `env[name="MCP_HOST"]`, "Find out who removes it"}, "set", "env", "statefulset/web", "MCP_HOST-"),
			eventSays("FieldFight", "somebody removes"))).
		Assess("a change of the MCPServer is applied without waiting, and a new variable is not reported as removed", holds(2,
			apply(strings.Replace(undeclared, `:1"`, `:1", env: [{name: NEW, value: a}]`, 1)),
			eventuallyPrints("MCP_TRANSPORT MCP_PORT FASTMCP_PORT MCP_HOST FASTMCP_HOST NEW", "statefulset/web", ".spec.template.spec.containers[0].env[*].name"),
			conditionIsGone(v1beta1.ConditionFieldConflict), scaleIs(2), passesAreForced(2), noEventSays("NEW"))).
		Feature())
}

// TestWhatTheSchemaDoesNotAllow: the API server lets a client write an environment variable twice. The operator must continue to work.
func TestWhatTheSchemaDoesNotAllow(t *testing.T) {
	testEnv.Test(t, feature("a duplicate environment variable").
		Assess("two pods", scaledToTwo(undeclared)).
		Assess("does not stop the operator", holds(2,
			kubectl("patch", "statefulset", server, "--type=json", "-p",
				`[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"MCP_HOST","value":"x"}}]`),
			apply(strings.Replace(undeclared, "server:1", "server:2", 1)), imageIs("registry.example/server:2"))).
		Feature())
}

// TestTwoAppliersOfOneMCPServer verifies that each field manager owns what it applied, also in lists, and can only remove its own
// fields.
func TestTwoAppliersOfOneMCPServer(t *testing.T) {
	part := func(team string, rest string) string {
		return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web, labels: {team-%[1]s: "yes"}}
spec:
  %[2]s
  env: [{name: TEAM_%[1]s, value: "yes"}]
  volumes: [{name: team-%[1]s, mountPath: /team-%[1]s, emptyDir: {}}]
  secrets: [{name: team-%[1]s, key: token, targetEnvName: SECRET_%[1]s}]
  podTemplateSpec: {spec: {containers: [{name: mcp, env: [{name: TEMPLATE_%[1]s, value: "yes"}]}]}}
`, team, rest)
	}
	const image = `image: "registry.example/server:1"`
	const (
		labels    = ".metadata.labels"
		variables = ".spec.template.spec.containers[0].env[*].name"
		volumes   = ".spec.template.spec.volumes[*].name"
	)
	testEnv.Test(t, feature("two field managers of one MCPServer").
		Assess("each applies its part, without a conflict", all(
			applyAs("team-a", part("a", image)), applyAs("team-b", part("b", "")),
			eventuallyHas([]string{"TEAM_a", "TEAM_b", "SECRET_a", "SECRET_b", "TEMPLATE_a", "TEMPLATE_b"}, "statefulset/web", variables),
			eventuallyHas([]string{"team-a", "team-b"}, "statefulset/web", volumes),
			eventuallyHas([]string{"team-a", "team-b"}, "mcpserver/web", labels))).
		Assess("a field that one manager drops is removed, and nothing else", all(
			applyAs("team-b", "{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, metadata: {name: web}}"),
			eventuallyPrints("team-a", "statefulset/web", volumes),
			eventuallyPrints("MCP_TRANSPORT MCP_PORT FASTMCP_PORT MCP_HOST FASTMCP_HOST TEAM_a SECRET_a TEMPLATE_a", "statefulset/web", variables),
			eventuallyHas([]string{"team-a"}, "mcpserver/web", labels))).
		Feature())
}

// noEventSays fails if an event on the MCPServer has a note that contains the word.
func noEventSays(word string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for _, note := range eventNotes(ctx, t) {
			if strings.Contains(note, word) {
				t.Errorf("unexpected event %s", note)
			}
		}
	})
}

func valueOf(ctx context.Context, t *testing.T, f foreign) string {
	t.Helper()
	return jsonpath(ctx, t, f.child, f.path)
}

func jsonpath(ctx context.Context, t *testing.T, object, path string) string {
	t.Helper()
	out, err := theCluster.Kubectl(ctx, "-n", in(ctx), "get", object, "-o", "jsonpath={"+path+"}")
	must(t, err)
	return out
}

// eventuallyPrints waits until a field of an object has exactly the given words.
func eventuallyPrints(want, object, path string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%s of %s to be %q", path, object, want), func(ctx context.Context) (string, bool) {
			value, err := theCluster.Kubectl(ctx, "-n", in(ctx), "get", object, "-o", "jsonpath={"+path+"}")
			return value, err == nil && sameWords(value, want) // a pod that is being replaced is absent for a while
		})
	})
}

// eventuallyHas waits until a field of an object contains all the given words.
func eventuallyHas(words []string, object, path string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%s of %s to have %q", path, object, words), func(ctx context.Context) (string, bool) {
			value := jsonpath(ctx, t, object, path)
			return value, containsAll(value, words)
		})
	})
}

// imageOfServerIs waits until the server container in pod web-0 runs an image. It ignores other containers.
func imageOfServerIs(image string) features.Func {
	return eventuallyPrints(image, "pod/web-0", `.spec.containers[?(@.name=="mcp")].image`)
}

// sameWords compares without regard to order, because the order of a keyed list depends on the last apply.
func sameWords(a, b string) bool {
	words, others := strings.Fields(a), strings.Fields(b)
	slices.Sort(words)
	slices.Sort(others)
	return slices.Equal(words, others)
}
