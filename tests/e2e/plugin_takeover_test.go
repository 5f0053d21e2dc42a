package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestTheWayOverFromToolHive takes over 20 MCPServers with what ToolHive's operator really leaves, with the commands that the plugin prints.
func TestTheWayOverFromToolHive(t *testing.T) {
	servers := many()
	var pods map[types.UID]string
	var versions map[string]string
	dryRun := func(words ...string) features.Func { return plugin(exitFound, words, "takeover", "--dry-run") }
	testEnv.Test(t, feature("20 MCPServers").
		Setup(all(operatorStops(), step(func(ctx context.Context, t *testing.T) {
			_, err := theCluster.KubectlWithInput(ctx, theirOperator, "create", "-n", in(ctx), "-f", "-")
			must(t, err)
			for _, one := range servers {
				one.leave(ctx, t)
			}
			eventuallyMany(ctx, t, "all pods to be ready", func(ctx context.Context) (string, bool) { return haveScales(ctx, t, servers) })
			pods, versions = podsOfServers(ctx, t), versionsOf(ctx, t)
		}))).
		Assess("the dry run has everything, and changes nothing", all(
			dryRun("ToolHive's operator runs", "kubectl -n", "scale deployment thv --replicas=0", "scale deployment server-7 --replicas=0",
				`make the MCPServer the controller of StatefulSet "server-0"`, `make the MCPServer the controller of Service "mcp-server-1-headless"`,
				"remove the finalizer", "restarts the pods", ".spec.template", "groupRef (no effect)", `ConfigMap "server-0-runconfig"`, `Service "mcp-server-0"`,
				`kept, because pods may use it: ServiceAccount "server-0-sa"`),
			step(func(ctx context.Context, t *testing.T) {
				if now := versionsOf(ctx, t); !maps.Equal(now, versions) {
					t.Errorf("the dry run has changed objects: they were %v and are %v", versions, now)
				}
			}))).
		Assess("while its operator runs, nothing is taken over", step(func(ctx context.Context, t *testing.T) {
			code, _, stderr := runPlugin(ctx, t, "", "takeover")
			if code != exitError {
				t.Fatalf("the exit code is %d", code)
			}
			if now := versionsOf(ctx, t); !maps.Equal(now, versions) {
				t.Error("the takeover has changed objects")
			}
			runsPrinted(ctx, t, stderr)
		})).
		Assess("while a proxy runs, its MCPServer is not taken over", step(func(ctx context.Context, t *testing.T) {
			kubectl("scale", "deployment", "server-0", "--replicas=0")(ctx, t, nil)
			eventuallyMany(ctx, t, "the proxy to stop", func(ctx context.Context) (string, bool) {
				left := get(ctx, t, "server-0", &appsv1.Deployment{}).Status.Replicas
				return fmt.Sprint(left, " pods"), left == 0
			})
			code, stdout, stderr := runPlugin(ctx, t, "", "takeover")
			if code != exitError || !strings.Contains(stdout, "server-1: not taken over, because its proxy runs") {
				t.Fatalf("the exit code is %d:\n%s", code, stdout)
			}
			if finalizers := get(ctx, t, "server-0", &v1beta1.MCPServer{}).Finalizers; len(finalizers) > 0 {
				t.Errorf("server-0 still has %v", finalizers)
			}
			runsPrinted(ctx, t, stderr)
		})).
		Assess("a takeover that was stopped in the middle goes on", all(
			kubectl("patch", "mcpserver", "server-3", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`),
			step(func(ctx context.Context, t *testing.T) {
				eventuallyMany(ctx, t, "the takeover", func(ctx context.Context) (string, bool) { // the proxies are still stopping
					code, stdout, stderr := runPlugin(ctx, t, "", "takeover")
					return stdout + stderr, code == exitOK
				})
			}))).
		Assess("the takeover has restarted no pod", step(func(ctx context.Context, t *testing.T) {
			if now := podsOfServers(ctx, t); !maps.Equal(now, pods) {
				t.Errorf("the pods were %v and are %v", pods, now)
			}
		})).
		Assess("a second run has nothing to do", plugin(exitOK, []string{"nothing to take over"}, "takeover")).
		Assess("this operator keeps all scales and their owners", all(operatorStarts(), step(func(ctx context.Context, t *testing.T) {
			eventuallyMany(ctx, t, "all MCPServers to be as wanted", func(ctx context.Context) (string, bool) {
				if text, are := haveScales(ctx, t, servers); !are {
					return text, false
				}
				for _, one := range servers {
					mcp := get(ctx, t, one.name, &v1beta1.MCPServer{})
					wanted := one.owner()
					if mcp.Status.Scale == nil || mcp.Status.Scale.Owner != wanted || mcp.Status.Replicas != int32(one.replicas) {
						return fmt.Sprintf("%s: %+v, want %d by %s", one.name, mcp.Status.Scale, one.replicas, wanted), false
					}
				}
				return "", true
			})
			for _, one := range servers {
				for _, object := range []client.Object{
					get(ctx, t, one.name, &appsv1.StatefulSet{}), get(ctx, t, "mcp-"+one.name+"-proxy", &corev1.Service{}), get(ctx, t, "mcp-"+one.name+"-headless", &corev1.Service{}),
				} {
					for _, entry := range object.GetManagedFields() {
						if entry.Manager == predecessor || entry.Manager == "thv-operator" {
							t.Errorf("%T %s still has fields of %s", object, object.GetName(), entry.Manager)
						}
					}
				}
			}
		}))).
		Assess("clients reach the servers, not the proxies", eventuallyPrints(`{"app":"server-1"}`, "service/mcp-server-1-proxy", ".spec.selector")).
		Assess("the leftovers are removed on request", step(func(ctx context.Context, t *testing.T) {
			eventuallyMany(ctx, t, "the leftovers to be gone", func(ctx context.Context) (string, bool) { // a ServiceAccount stays until its pods are replaced
				code, stdout, stderr := runPlugin(ctx, t, "", "takeover", "--remove-leftovers")
				return stdout + stderr, code == exitOK && !strings.Contains(stdout, "delete") && !strings.Contains(stdout, "kept")
			})
			out, err := theCluster.Kubectl(ctx, "get", "deployments,configmaps,roles,rolebindings,serviceaccounts,services", "-n", in(ctx), "-o", "name")
			must(t, err)
			for _, one := range servers {
				for _, left := range []string{
					"deployment.apps/" + one.name, one.name + "-runconfig", one.name + "-proxy-runner", "serviceaccount/" + one.name + "-sa", "service/mcp-" + one.name,
				} {
					if slices.ContainsFunc(strings.Fields(out), func(name string) bool { return name == left || strings.HasSuffix(name, "/"+left) }) {
						t.Errorf("%s still exists", left)
					}
				}
			}
		})).
		Feature())
}

// eventuallyMany is eventually with more time: the pods of 20 MCPServers are replaced on two cores.
func eventuallyMany(ctx context.Context, t *testing.T, what string, is func(context.Context) (string, bool)) {
	t.Helper()
	must(t, cluster.EventuallyWithin(ctx, 5*time.Minute, what, is))
}

// haveScales reports whether each server has its number of ready pods, and what differs.
func haveScales(ctx context.Context, t *testing.T, servers []theirs) (string, bool) {
	t.Helper()
	for _, one := range servers {
		set := get(ctx, t, one.name, &appsv1.StatefulSet{})
		if replicas(set) != int32(one.replicas) || set.Status.ReadyReplicas != int32(one.replicas) || set.Status.UpdatedReplicas != int32(one.replicas) ||
			set.Status.ObservedGeneration != set.Generation {
			return fmt.Sprintf("%s: %d of %d pods are ready, want %d", one.name, set.Status.ReadyReplicas, replicas(set), one.replicas), false
		}
	}
	return "", true
}

// podsOfServers returns the names of the pods of StatefulSets, by UID.
func podsOfServers(ctx context.Context, t *testing.T) map[types.UID]string {
	t.Helper()
	var list corev1.PodList
	must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx)), client.HasLabels{"toolhive-name"}))
	found := map[types.UID]string{}
	for i := range list.Items {
		found[list.Items[i].UID] = list.Items[i].Name
	}
	return found
}

// versionsOf returns the resourceVersions of the objects that a takeover may change, except those of the status.
func versionsOf(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	out, err := theCluster.Kubectl(ctx, "get", "mcpservers,statefulsets,services,serviceaccounts,roles,configmaps", "-n", in(ctx), "-o",
		`jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} {.metadata.ownerReferences} {.metadata.finalizers}{"\n"}{end}`)
	must(t, err)
	// The status of these objects does not change.
	others, err := theCluster.Kubectl(ctx, "get", "services,serviceaccounts,roles,rolebindings,configmaps", "-n", in(ctx), "-o",
		`jsonpath={range .items[*]}whole-{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}`)
	must(t, err)
	found := map[string]string{}
	for line := range strings.Lines(out + others) {
		name, state, _ := strings.Cut(line, " ")
		found[name] = state
	}
	return found
}

// TestTheGuideIsFollowed runs the commands of the guide in docs/manifests.md, one after the other, for two MCPServers.
func TestTheGuideIsFollowed(t *testing.T) {
	servers := []theirs{{name: "web", generation: beforeAugust, replicas: 2}, {name: "files", generation: stdio, replicas: 1}}
	const system = "toolhive-system"
	test := feature("the way over from ToolHive").
		Setup(all(afterwards(clusterKubectl("delete", "--ignore-not-found", "namespace", system)), clusterKubectl("create", "namespace", system),
			operatorStops(), step(func(ctx context.Context, t *testing.T) {
				_, err := theCluster.KubectlWithInput(ctx, strings.Replace(theirOperator, "name: thv", "name: toolhive-operator", 1), "create", "-n", system, "-f", "-")
				must(t, err)
				for _, one := range servers {
					one.leave(ctx, t)
				}
				eventually(ctx, t, "all pods to be ready", func(ctx context.Context) (string, bool) { return haveScales(ctx, t, servers) })
			}), operatorStarts()))
	before := map[string]string{}
	test = test.Assess("while it is ToolHive's, this operator changes nothing, and the condition has the command", all(step(func(ctx context.Context, t *testing.T) {
		before = versionsOf(ctx, t)
	}), conditionSays(v1beta1.ConditionStalled, "ToolHiveFinalizer", "kubectl mcpserver takeover web -n"), passesAreForced(2),
		eventuallyPrints(`{"app":"mcpserver","app.kubernetes.io/instance":"web"}`, "service/mcp-web-proxy", ".spec.selector"),
		step(func(ctx context.Context, t *testing.T) {
			if now := versionsOf(ctx, t); !maps.Equal(now, before) {
				t.Errorf("objects were %v and are %v", before, now)
			}
		})))
	for _, command := range commandsIn(t, "The way over from ToolHive") {
		test = test.Assess(command, step(func(ctx context.Context, t *testing.T) {
			command := strings.ReplaceAll(command, "NAMESPACE", in(ctx))
			for _, one := range servers {
				follow(ctx, t, strings.ReplaceAll(command, "NAME", one.name))
				if !strings.Contains(command, "NAME") {
					break // a command for all
				}
			}
		}))
	}
	testEnv.Test(t, test.Assess("the conditions are gone", conditionIsGone(v1beta1.ConditionStalled)).
		Assess("the servers run at their scale", step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "the scales", func(ctx context.Context) (string, bool) { return haveScales(ctx, t, servers) })
		})).
		Assess("nothing of ToolHive is left", step(func(ctx context.Context, t *testing.T) {
			out, err := theCluster.Kubectl(ctx, "get", "deployments,roles", "-n", in(ctx), "-o", "name")
			must(t, err)
			if strings.TrimSpace(out) != "" {
				t.Errorf("there is still %s", out)
			}
		})).
		Feature())
}

// follow runs a command of the guide. A takeover is repeated while proxies are still stopping.
func follow(ctx context.Context, t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)[1:]
	if args[0] != "mcpserver" {
		_, err := theCluster.Kubectl(ctx, args...)
		must(t, err)
		return
	}
	eventually(ctx, t, command, func(ctx context.Context) (string, bool) {
		code, stdout, stderr := runPlugin(ctx, t, "", args[1:]...)
		return stdout + stderr, code != exitError
	})
}

// commandsIn returns the commands in a section of docs/manifests.md, without the alternatives.
func commandsIn(t *testing.T, section string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "manifests.md"))
	must(t, err)
	_, text, found := strings.Cut(string(content), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/manifests.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var commands []string
	for line := range strings.Lines(text) {
		if command, isCode := strings.CutPrefix(line, "    "); isCode {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if len(commands) < 6 {
		t.Fatalf("found only the commands %q", commands)
	}
	return commands
}

// TestADeletionThatWaitsForToolHiveCompletes: nobody removes ToolHive's finalizer when its operator no longer runs.
func TestADeletionThatWaitsForToolHiveCompletes(t *testing.T) {
	testEnv.Test(t, feature("a deleted MCPServer").
		Setup(all(operatorStops(), step(func(ctx context.Context, t *testing.T) {
			theirs{name: server, generation: beforeAugust, replicas: 2}.leave(ctx, t)
		}),
			kubectl("delete", "deployment", server), kubectl("delete", "mcpserver", server, "--wait=false"), operatorStarts())).
		Assess("the dry run says so", plugin(exitFound, []string{"is being deleted", "remove the finalizer"}, "takeover", server, "--dry-run")).
		Assess("and it disappears", all(plugin(exitOK, []string{"remove the finalizer"}, "takeover", server),
			kubectl("wait", "mcpserver", server, "--for=delete", "--timeout=30s"))).
		Assess("with its StatefulSet and Services", kubectl("wait", "statefulset/"+server, "service/mcp-"+server+"-headless", "--for=delete", "--timeout=60s")).
		Feature())
}

// mayTakeOver allows a user to take over one MCPServer.
const mayTakeOver = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: limited}
rules:
- {apiGroups: ["*"], resources: ["*"], verbs: [get, list]}
- {apiGroups: ["*"], resources: ["*"], verbs: [patch, delete], resourceNames: [web, mcp-web-proxy, mcp-web-headless]}
- {apiGroups: [toolhive.stacklok.dev], resources: [mcpservers/finalizers], verbs: [update], resourceNames: [web]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: limited}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: limited}]
`

// TestATakeoverThatFailsForOneMCPServerGoesOnWithTheOthers: "files" comes before "web".
func TestATakeoverThatFailsForOneMCPServerGoesOnWithTheOthers(t *testing.T) {
	testEnv.Test(t, feature("a user who may change one of two MCPServers").
		Setup(all(step(func(ctx context.Context, t *testing.T) {
			for _, one := range []theirs{{name: "files", generation: beforeAugust, replicas: 1}, {name: server, generation: beforeAugust, replicas: 1}} {
				one.leave(ctx, t)
			}
		}), apply(mayTakeOver), proxiesAreGone("files", server))).
		Assess("takes it over, and is told why the other stays", plugin(exitError,
			[]string{"you may not list Deployments in all namespaces", "/files: patching StatefulSet \"files\"", "forbidden", `make the MCPServer the controller of StatefulSet "web"`,
				"What this operator then does is unknown"}, "takeover", "--as=limited")).
		Assess("the finalizers", all(eventuallyPrints("", "mcpserver/web", ".metadata.finalizers"),
			eventuallyPrints(`["mcpserver.toolhive.stacklok.dev/finalizer"]`, "mcpserver/files", ".metadata.finalizers"))).
		Feature())
}
