package e2e

import (
	"context"
	"net/http"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
)

// everything has every field except replicas. Some values are ones that the API server stores in a different form: a CPU quantity, a
// field reference without its version, an empty value.
const everything = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: registry.example/server:3
  transport: sse
  proxyPort: 80
  mcpPort: 9000
  args: [--verbose, ""]
  env:
  - {name: EMPTY, value: ""}
  - {name: MCP_HOST, value: 127.0.0.1}
  - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
  - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1000m}}}
  - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  - {name: CONFIG, valueFrom: {configMapKeyRef: {name: settings, key: config, optional: true}}}
  - {name: TOKEN, valueFrom: {secretKeyRef: {name: credentials, key: token}}}
`

// TestConvergedServersCostNoWrite verifies that neither passes nor restarts write an MCPServer and children that are up to date.
func TestConvergedServersCostNoWrite(t *testing.T) {
	theCluster.NeedAuditLog(t)
	testEnv.Test(t, feature("a converged MCPServer").
		Assess("one write for each child to create it", createdWithOneWritePerChild()).
		Assess("20 s of forced passes write nothing", writesNothing(passesFor(quietTime))).
		Assess("with every field set", all(apply(everything), imageIs("registry.example/server:3"), scaleIs(1))).
		Assess("forced passes write nothing", writesNothing(passesAreForced(10))).
		Assess("declared", all(apply(declared(2)), scaleIs(2))).
		Assess("forced passes write nothing", writesNothing(passesAreForced(10))).
		Assess("a restart writes nothing", writesNothing(all(operatorRestarts(), passesAreForced(1)))).
		Assess("yielded", all(kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3))).
		Assess("a restart writes nothing in that state", writesNothing(all(operatorRestarts(), passesAreForced(1)))).
		Feature())
}

// TestMetricsNeedAuthorization verifies that requests for metrics fail without credentials and without the required permission.
func TestMetricsNeedAuthorization(t *testing.T) {
	testEnv.Test(t, feature("the metrics").
		Assess("are refused without credentials", step(func(ctx context.Context, t *testing.T) {
			status, body, err := operator.Scrape(ctx, "")
			must(t, err)
			must(t, body.Close())
			if status != http.StatusUnauthorized {
				t.Fatalf("status %d", status)
			}
		})).
		Assess("are refused to a ServiceAccount without the role", step(func(ctx context.Context, t *testing.T) {
			request, err := theCluster.Clients.CoreV1().ServiceAccounts(in(ctx)).CreateToken(ctx, "default",
				&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			must(t, err)
			status, body, err := operator.Scrape(ctx, request.Status.Token)
			must(t, err)
			must(t, body.Close())
			if status != http.StatusForbidden {
				t.Fatalf("status %d", status)
			}
		})).
		Assess("are served to a ServiceAccount with the role mcpserver-operator-metrics-reader", step(
			func(ctx context.Context, t *testing.T) {
				families, err := operator.Metrics(ctx)
				must(t, err)
				if families["controller_runtime_reconcile_total"] == nil {
					t.Fatalf("no controller_runtime_reconcile_total among %d metrics", len(families))
				}
			})).
		Feature())
}

// createdWithOneWritePerChild also verifies that the audit log, on which the rest of the test depends, contains the writes.
func createdWithOneWritePerChild() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		mark, err := theCluster.AuditMark()
		must(t, err)
		all(apply(undeclared), scaleIs(1))(ctx, t, nil)
		requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
		must(t, err)
		writes := map[string]int{}
		for _, request := range requests {
			if request.IsWrite() && request.Namespace == in(ctx) {
				writes[request.Resource]++
			}
		}
		t.Logf("writes from creation to Ready: %v", writes)
		for resource, wanted := range map[string]int{
			"statefulsets": 1, "services": 2, "serviceaccounts": 1, "poddisruptionbudgets": 1, "networkpolicies": 0,
		} {
			if writes[resource] != wanted {
				t.Errorf("got %d writes of %s, want %d: one for each child", writes[resource], resource, wanted)
			}
		}
	})
}

// passesFor forces passes for the given time.
func passesFor(duration time.Duration) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		for end := time.Now().Add(duration); time.Now().Before(end); {
			passesAreForced(1)(ctx, t, nil)
		}
	})
}

// writesNothing fails if the operator writes anything in the namespace of the test during the step. It reads the API server's audit
// log.
func writesNothing(during features.Func) features.Func {
	return writesNo(func(cluster.Request) bool { return true }, during)
}

// writesNo fails if the operator sends a write of the given kind in the namespace of the test during the step.
func writesNo(kind func(cluster.Request) bool, during features.Func) features.Func {
	return sendsNo(func(request cluster.Request) bool { return request.IsWrite() && kind(request) }, during)
}

// readsOnlyTheCache fails if the operator reads an object from the API server in the namespace of the test during the step.
func readsOnlyTheCache(during features.Func) features.Func {
	return sendsNo(func(request cluster.Request) bool { return request.Verb == "get" || request.Verb == "list" }, during)
}

// sendsNo fails if the operator sends a request of the given kind in the namespace of the test during the step.
func sendsNo(kind func(cluster.Request) bool, during features.Func) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		// Pending writes may finish first: an event about an earlier pass, the status of a rollout.
		passesAreForced(2)(ctx, t, nil)
		mark, err := theCluster.AuditMark()
		must(t, err)
		during(ctx, t, nil)
		requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
		must(t, err)
		for _, request := range requests {
			if request.Namespace == in(ctx) && kind(request) {
				t.Errorf("%s: %s", request.Time.Format(time.StampMilli), request)
			}
		}
	})
}
