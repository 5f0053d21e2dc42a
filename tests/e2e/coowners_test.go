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

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/tests/cluster"
)

// full is an MCPServer with every child.
const full = `
apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec:
  image: "registry.example/server:1"
  transport: streamable-http
  env: [{name: MODE, value: plain}]
  volumes: [{name: scratch, mountPath: /scratch, emptyDir: {}}]
  permissionProfile: {name: none}
`

// foreign is a field that someone else has written, and how kubectl shows that it is still there.
type foreign struct {
	what string
	// write is the arguments of kubectl; manifest is what it applies as the field manager injector.
	write    []string
	manifest string
	// child and path say what kubectl get -o jsonpath has to print.
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
	{what: "a role for the ServiceAccount", write: []string{"annotate", "serviceaccount/mcp-web", "cloud.example.com/role=reader"},
		child: "serviceaccount/mcp-web", path: `.metadata.annotations.cloud\.example\.com/role`, want: "reader"},
	{what: "an image pull secret of the ServiceAccount", write: []string{"patch", "serviceaccount/mcp-web", "--type=strategic", "-p",
		`{"imagePullSecrets":[{"name":"registry"}]}`},
		child: "serviceaccount/mcp-web", path: ".imagePullSecrets[*].name", want: "registry"},
	{what: "a label of the PodDisruptionBudget", write: []string{"label", "poddisruptionbudget/mcp-web", "team=a"},
		child: "poddisruptionbudget/mcp-web", path: ".metadata.labels.team", want: "a"},
	{what: "rules for what comes in, in the NetworkPolicy", manifest: `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mcp-web}
spec: {ingress: [{ports: [{port: 8080}]}]}
`, child: "networkpolicy/mcp-web", path: ".spec.ingress[*].ports[*].port", want: "8080"},
}

// scaledToTwo applies a manifest without replicas and scales its StatefulSet to 2. That is nobody's default, so that a scale
// which is reset shows.
func scaledToTwo(manifest string) features.Func {
	return all(apply(manifest), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))
}

// TestWhatOthersWriteSurvives: on every child, through passes, changes of ours and a restart; and it does not move the scale.
func TestWhatOthersWriteSurvives(t *testing.T) {
	test := feature("what others write").Assess("every child is there", scaledToTwo(full))
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
				t.Errorf("%s: %s of %s is %q, and was %q", f.what, f.path, f.child, value, values[f.what])
			}
		}
	})
	edited := strings.NewReplacer("server:1", "server:2", "plain", "fancy").Replace(full)
	testEnv.Test(t, test.
		Assess("survives passes", holds(2, passesAreForced(3), survive)).
		Assess("survives another image and another value of ours", holds(2,
			apply(edited), imageOfServerIs("registry.example/server:2"), scaleIs(2), survive)).
		Assess("survives a restart of the operator", holds(2, operatorRestarts(), passesAreForced(1), survive)).
		Assess("survives a variable of ours that goes", holds(2,
			apply(strings.Replace(edited, "env: [{name: MODE, value: fancy}]", "", 1)),
			eventuallyPrints("", "statefulset/web", `.spec.template.spec.containers[?(@.name=="mcp")].env[?(@.name=="MODE")].value`), survive)).
		Feature())
}

// TestAFieldOfOursIsPutBackOnce: with an event that names who had changed it, and without the scale.
func TestAFieldOfOursIsPutBackOnce(t *testing.T) {
	theCluster.NeedAuditLog(t)
	test := feature("a field of ours").Assess("every child is there", scaledToTwo(full))
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
				t.Errorf("%v, wanted one write", writes)
			}
		}))
	}
	testEnv.Test(t, test.Feature())
}

// TestARenumberedPortIsPutBack: ports are merged by their number, so that a second one would be left beside ours.
func TestARenumberedPortIsPutBack(t *testing.T) {
	testEnv.Test(t, feature("a port of ours").
		Assess("is there", scaledToTwo(full)).
		Assess("of the Service, with another number", holds(2,
			kubectl("patch", "service", "mcp-web-proxy", "--type=json", "-p", `[{"op":"replace","path":"/spec/ports/0/port","value":9090}]`),
			eventuallyPrints("8080", "service/mcp-web-proxy", ".spec.ports[*].port"),
			eventSays("FieldTakenBack", "kubectl-patch", "9090", `Service "mcp-web-proxy"`))).
		Assess("of the container, with another number", holds(2,
			kubectl("patch", "statefulset", server, "--type=json", "-p",
				`[{"op":"replace","path":"/spec/template/spec/containers/0/ports/0/containerPort","value":9090}]`),
			eventuallyPrints("8080", "statefulset/web", ".spec.template.spec.containers[0].ports[*].containerPort"),
			eventSays("FieldTakenBack", "kubectl-patch", "9090", `StatefulSet "web"`))).
		Assess("and another number of ours still takes the old one away", holds(2,
			apply(strings.Replace(full, "transport:", "proxyPort: 80\n  transport:", 1)), childrenAreAsBuilt(),
			eventuallyPrints("80", "service/mcp-web-proxy", ".spec.ports[*].port"),
			eventuallyPrints("80", "statefulset/web", ".spec.template.spec.containers[0].ports[*].containerPort"))).
		Feature())
}

// fightShows repeats a kubectl command until the condition says that it is a fight, in words.
func fightShows(words []string, command ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, "the condition FieldConflict", func(ctx context.Context) (string, bool) {
			kubectl(command...)(ctx, t, nil)
			condition := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1alpha1.ConditionFieldConflict)
			return fmt.Sprint(condition), condition != nil && condition.Reason == "FieldFight" && containsAll(condition.Message, words)
		})
	})
}

// TestAFightOverAField: the operator does not replace pods for ever because somebody else has another opinion.
func TestAFightOverAField(t *testing.T) {
	testEnv.Test(t, feature("somebody sets another image each time it is put back").
		Assess("has two pods", scaledToTwo(undeclared)).
		Assess("is put back, then less and less often, and says against whom", holds(2,
			fightShows([]string{"kubectl-set", "image", "declare its value in the MCPServer"}, "set", "image", "statefulset/web", "mcp=registry.example/other:1"),
			eventSays("FieldFight", "kubectl-set", "image"))).
		Assess("meanwhile it stays", holds(2, wait(3*time.Second))).
		Assess("as the other wants it", eventuallyPrints("registry.example/other:1", "statefulset/web", ".spec.template.spec.containers[0].image")).
		Assess("a change of the MCPServer does not wait", holds(2,
			apply(strings.Replace(undeclared, "server:1", "server:2", 1)),
			eventuallyPrints("registry.example/server:2", "statefulset/web", ".spec.template.spec.containers[0].image"),
			conditionIsGone(v1alpha1.ConditionFieldConflict))).
		Feature())
}

// TestAFightWithWhoRemovesAField: nor because somebody takes a field away each time; who that is, Kubernetes does not record.
func TestAFightWithWhoRemovesAField(t *testing.T) {
	testEnv.Test(t, feature("somebody removes an environment variable each time it is put back").
		Assess("has two pods", scaledToTwo(undeclared)).
		Assess("is put back, then less and less often, and says which", holds(2,
			fightShows([]string{"somebody removes", `env[name="MCP_HOST"]`, "Find out who removes it"}, "set", "env", "statefulset/web", "MCP_HOST-"),
			eventSays("FieldFight", "somebody removes"))).
		Assess("a change of the MCPServer does not wait, and what is new in it was not removed", holds(2,
			apply(strings.Replace(undeclared, `:1"`, `:1", env: [{name: NEW, value: a}]`, 1)),
			eventuallyPrints("MCP_TRANSPORT MCP_PORT FASTMCP_PORT MCP_HOST FASTMCP_HOST NEW", "statefulset/web", ".spec.template.spec.containers[0].env[*].name"),
			conditionIsGone(v1alpha1.ConditionFieldConflict), scaleIs(2), passesAreForced(2), noEventSays("NEW"))).
		Feature())
}

// TestWhatTheSchemaDoesNotAllow: the API server lets somebody write an environment variable twice; that does not keep the
// operator from its work.
func TestWhatTheSchemaDoesNotAllow(t *testing.T) {
	testEnv.Test(t, feature("an environment variable of ours twice").
		Assess("two pods", scaledToTwo(undeclared)).
		Assess("does not stop the operator", holds(2,
			kubectl("patch", "statefulset", server, "--type=json", "-p",
				`[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"MCP_HOST","value":"x"}}]`),
			apply(strings.Replace(undeclared, "server:1", "server:2", 1)), imageIs("registry.example/server:2"))).
		Feature())
}

// TestTwoAppliersOfOneMCPServer: each owns what it applied, also in lists, and takes only that away.
func TestTwoAppliersOfOneMCPServer(t *testing.T) {
	part := func(team string, rest string) string {
		return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1alpha1
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
		Assess("what one drops goes, and only that", all(
			applyAs("team-b", "{apiVersion: toolhive.stacklok.dev/v1alpha1, kind: MCPServer, metadata: {name: web}}"),
			eventuallyPrints("team-a", "statefulset/web", volumes),
			eventuallyPrints("MCP_TRANSPORT MCP_PORT FASTMCP_PORT MCP_HOST FASTMCP_HOST TEAM_a SECRET_a TEMPLATE_a", "statefulset/web", variables),
			eventuallyHas([]string{"team-a"}, "mcpserver/web", labels))).
		Feature())
}

// noEventSays fails if there is an event on the MCPServer whose note has a word.
func noEventSays(word string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for _, note := range eventNotes(ctx, t) {
			if strings.Contains(note, word) {
				t.Errorf("there is the event %s", note)
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

// eventuallyPrints waits until the field of an object has exactly the given words.
func eventuallyPrints(want, object, path string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%s of %s to be %q", path, object, want), func(ctx context.Context) (string, bool) {
			value, err := theCluster.Kubectl(ctx, "-n", in(ctx), "get", object, "-o", "jsonpath={"+path+"}")
			return value, err == nil && sameWords(value, want) // a pod that is replaced is absent for a while
		})
	})
}

// eventuallyHas waits until the field of an object has all the given words.
func eventuallyHas(words []string, object, path string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%s of %s to have %q", path, object, words), func(ctx context.Context) (string, bool) {
			value := jsonpath(ctx, t, object, path)
			return value, containsAll(value, words)
		})
	})
}

// imageOfServerIs waits until the container of the server in every pod runs an image, whatever runs beside it.
func imageOfServerIs(image string) features.Func {
	return eventuallyPrints(image, "pod/web-0", `.spec.containers[?(@.name=="mcp")].image`)
}

// sameWords compares in any order: that of a list with keys follows whoever applied last.
func sameWords(a, b string) bool {
	words, others := strings.Fields(a), strings.Fields(b)
	slices.Sort(words)
	slices.Sort(others)
	return slices.Equal(words, others)
}
