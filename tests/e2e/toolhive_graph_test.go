package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// generation is a version of ToolHive's operator, by what it leaves on a cluster.
type generation string

const (
	// beforeAugust set no owner reference on the StatefulSet.
	beforeAugust generation = "before August 2026"
	// sinceAugust makes the MCPServer the controller of the StatefulSet.
	sinceAugust generation = "since August 2026"
	// stdio is a server with this transport. It has no Services of its own.
	stdio generation = "stdio"
)

// theirs is an MCPServer that ToolHive's operator runs.
type theirs struct {
	name string
	generation
	replicas int
	// autoscaled is true if a HorizontalPodAutoscaler has set the scale.
	autoscaled bool
	// more are further fields of the spec, such as "tools: [a]".
	more string
}

// many are 20 MCPServers of all generations at mixed scales.
func many() []theirs {
	var all []theirs
	for i := range 20 {
		one := theirs{name: fmt.Sprintf("server-%d", i), generation: []generation{beforeAugust, sinceAugust, stdio}[i%3], replicas: i % 4}
		one.autoscaled = i%5 == 3 && one.replicas > 0
		all = append(all, one)
	}
	return all
}

// owner returns the owner of the scale. Kubernetes records none for a write of 0 through /scale, nor for a write of the number that ToolHive's
// proxy has applied.
func (s theirs) owner() string {
	switch {
	case s.replicas <= 1:
		return v1beta1.ScaleOwnerUnclaimed
	case s.autoscaled:
		return "HorizontalPodAutoscaler/" + s.name
	default:
		return "kubectl"
	}
}

// leave creates what ToolHive's operator leaves for an MCPServer, with its field managers. The proxy runs.
func (s theirs) leave(ctx context.Context, t *testing.T) {
	t.Helper()
	more := ""
	if s.more != "" {
		more = ", " + s.more
	}
	create := func(manager, manifest string) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "create", "--field-manager="+manager, "-n", in(ctx), "-f", "-")
		must(t, err)
	}
	create("kubectl-create", fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: %s, finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}
spec: {image: "registry.example/server:1", transport: %s, groupRef: {name: all}%s}
`, s.name, s.transport(), more))
	ofServer := s.ownedByServer(ctx, t)
	create("thv-operator", fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s-proxy-runner, ownerReferences: %[2]s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s-sa, ownerReferences: %[2]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s-proxy-runner, ownerReferences: %[2]s}
rules: [{apiGroups: [apps], resources: [statefulsets], verbs: [get, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s-proxy-runner, ownerReferences: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]s-proxy-runner}
subjects: [{kind: ServiceAccount, name: %[1]s-proxy-runner}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s-runconfig, ownerReferences: %[2]s}
data: {runconfig.json: "{}"}
---
apiVersion: v1
kind: Service
metadata: {name: mcp-%[1]s-proxy, labels: {app: mcpserver}, ownerReferences: %[2]s}
spec:
  selector: {app: mcpserver, app.kubernetes.io/instance: %[1]s}
  ports: [{name: http, port: 8080, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, ownerReferences: %[2]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: mcpserver, app.kubernetes.io/instance: %[1]s}}
  template:
    metadata: {labels: {app: mcpserver, app.kubernetes.io/instance: %[1]s}}
    spec:
      serviceAccountName: %[1]s-proxy-runner
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - {name: toolhive, image: "registry.example/proxy:1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`, s.name, ofServer))
	s.proxyStarts(ctx, t)
	if s.generation != stdio {
		set := get(ctx, t, s.name, &appsv1.StatefulSet{})
		asPredecessor(ctx, t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: mcp-%[1]s-headless, ownerReferences: %[2]s}
spec: {clusterIP: None, selector: {app: %[1]s}, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: mcp-%[1]s, ownerReferences: %[2]s}
spec: {selector: {app: %[1]s}, ports: [{name: http, port: 8080, targetPort: 8080}]}
`, s.name, ownedBy("StatefulSet", "apps/v1", s.name, set.UID)))
	}
	if s.autoscaled {
		asPredecessor(ctx, t, fmt.Sprintf(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %[1]s}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: %[1]s}, minReplicas: %[2]d, maxReplicas: %[2]d}
`, s.name, s.replicas))
	} else {
		kubectl("scale", "statefulset", s.name, fmt.Sprint("--replicas=", s.replicas))(ctx, t, nil)
	}
}

func (s theirs) transport() string {
	if s.generation == stdio {
		return "stdio"
	}
	return "streamable-http"
}

// ownedBy returns owner references with one controller.
func ownedBy(kind, version, name string, uid types.UID) string {
	return fmt.Sprintf("[{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: true, blockOwnerDeletion: true}]", version, kind, name, uid)
}

func (s theirs) ownedByServer(ctx context.Context, t *testing.T) string {
	t.Helper()
	return ownedBy("MCPServer", "toolhive.stacklok.dev/v1beta1", s.name, get(ctx, t, s.name, &v1beta1.MCPServer{}).UID)
}

// proxyStarts applies the StatefulSet, as the proxy does whenever its pod starts.
func (s theirs) proxyStarts(ctx context.Context, t *testing.T) {
	t.Helper()
	owner := ""
	if s.generation == sinceAugust {
		owner = "ownerReferences: " + s.ownedByServer(ctx, t)
	}
	asPredecessor(ctx, t, fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: %[1]s
  labels: {app: %[1]s, toolhive: "true", toolhive-name: %[1]s}
  %[2]s
spec:
  replicas: 1
  serviceName: %[1]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, toolhive: "true", toolhive-name: %[1]s}}
    spec:
      serviceAccountName: %[1]s-sa
      securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: mcp
        image: registry.example/server:1
        stdin: true
        env: [{name: MCP_TRANSPORT, value: %[3]s}]
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`, s.name, owner, s.transport()))
}

// asPredecessor applies a manifest as ToolHive's proxy.
func asPredecessor(ctx context.Context, t *testing.T, manifest string) {
	t.Helper()
	applyForcedAs(predecessor, manifest)(ctx, t, nil)
}

// proxiesAreGone deletes the Deployments of proxies, and waits until their pods are gone.
func proxiesAreGone(names ...string) features.Func {
	return all(kubectl(append([]string{"delete", "deployment"}, names...)...), step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the pods of the proxies to be gone", func(ctx context.Context) (string, bool) {
			out, err := theCluster.Kubectl(ctx, "get", "pods", "-n", in(ctx), "-l", "app=mcpserver", "-o", "name")
			must(t, err)
			return out, out == ""
		})
	}))
}

// theirOperator is the Deployment of ToolHive's operator.
const theirOperator = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: thv}
spec:
  replicas: 1
  selector: {matchLabels: {app: thv}}
  template:
    metadata: {labels: {app: thv}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: manager
        image: registry.example/operator:1
        env: [{name: TOOLHIVE_RUNNER_IMAGE, value: "registry.example/proxy:1"}]
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`
