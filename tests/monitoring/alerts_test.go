package monitoring

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// healthLasts is how long nothing may fire. The conditions of alerts must hold for shortened only.
const healthLasts = 15 * time.Second

// onlyInIncidents are the panels that show nothing in health.
var onlyInIncidents = []string{
	"operator: Edits that wait",
	"operator: Fights over the scale",
	"operator: MCPServers that are not ready",
	"operator: Problems",
	"operator: Transfers of scales",
	"servers: Problems",
	"servers: Share of failed requests",
}

// manifest returns an MCPServer with a spec.
func manifest(namespace, name, spec string) string {
	return fmt.Sprintf("{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, metadata: {namespace: %s, name: %s}, spec: %s}", namespace, name, spec)
}

func apply(t *testing.T, manifests ...string) {
	t.Helper()
	input := strings.ReplaceAll(strings.Join(manifests, "\n---\n"), "\t", " ") // YAML has no tabs
	if output, err := theCluster.KubectlWithInput(t.Context(), input, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err, output)
	}
}

// breakWebhook makes every write of a child of an MCPServer fail until the end of the test: an admission webhook for it does not answer.
func breakWebhook(t *testing.T, namespace, server string) {
	t.Helper()
	apply(t, fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: %[1]s}, webhooks: [{
		name: broken.example.com, clientConfig: {url: "https://%[2]s/"}, failurePolicy: Fail, sideEffects: None, admissionReviewVersions: [v1],
		namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}, objectSelector: {matchLabels: {app.kubernetes.io/instance: %[3]s}},
		rules: [{apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], operations: [CREATE, UPDATE]}]}]}`, namespace, freeAddress(t), server))
	t.Cleanup(func() {
		_, err := theCluster.Kubectl(context.Background(), "delete", "validatingwebhookconfiguration", namespace)
		cluster.Must(t, err)
	})
	child := fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {namespace: %s, name: child, labels: {app.kubernetes.io/instance: %s}}}", namespace, server)
	cluster.MustEventually(t, "the API server to call the webhook", func() (string, bool) {
		output, err := theCluster.KubectlWithInput(t.Context(), child, "apply", "--server-side", "--dry-run=server", "-f", "-")
		return output, err != nil
	})
}

// TestEveryAlertFiresInItsIncident lets a Prometheus with the rules of deploy/monitoring watch the operator and runners. In health, no alert fires. Then
// each incident happens, and its alert fires. Every panel of the dashboards has data, the listed ones from an incident on.
func TestEveryAlertFiresInItsIncident(t *testing.T) {
	namespace := theCluster.NewNamespace(t, "monitoring-")
	of := func(server string) string { return " " + namespace + "/" + server }

	apply(t, manifest(namespace, "web", "{image: server, command: [serve], replicas: 2}"))
	web := startPods(t, "web", 2, stdioServer()...)
	full := startPods(t, "full", 1, append([]string{"--max-sessions=1", "--spare-processes=0"}, stdioServer()...)...)
	broken := startPods(t, "broken", 1, "--upstream=http://"+freeAddress(t)+"/mcp")
	apart := startPods(t, "apart", 2, stdioServer()...)
	cluster.MustEventually(t, "the MCPServer to be ready", func() (string, bool) {
		server := &v1beta1.MCPServer{}
		err := theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "web"}, server)
		return fmt.Sprint(err, server.Status.Ready), server.Status.Ready == "2/2"
	})
	for _, one := range slices.Concat(web, full, apart) { // the other one has no server
		one.answers(t, "/readyz")
	}
	opened := func(pods []*pod) *session {
		session, status := open(t.Context(), pods)
		if session == nil {
			t.Fatalf("%s has answered %d instead of opening a session", pods[0].name, status)
		}
		return session
	}
	onWeb := opened(web)
	opened(full)
	var onApart []*session
	for range 8 { // more than the first pod takes before it gives sessions to the second
		onApart = append(onApart, opened(apart[:1]))
	}

	p := startPrometheus(t)
	p.scrapeOperator(t)
	p.setTargets(t, runnerJob, slices.Concat(targets(namespace, "web", web), targets(namespace, "full", full),
		targets(namespace, "broken", broken), targets(namespace, "apart", apart))...)
	fired := map[string]bool{}
	fires := func(alerts ...string) {
		t.Helper()
		p.fires(t, alerts...)
		for _, alert := range alerts {
			name, _, _ := strings.Cut(alert, " ")
			fired[name] = true
		}
	}
	repeat(t, func(ctx context.Context) {
		if status := onWeb.call(ctx); status != http.StatusOK && ctx.Err() == nil {
			t.Errorf("a healthy server has answered %d", status)
		}
	})

	var empty []string // the queries of panels that have returned nothing so far
	stillEmpty := func() {
		now := p.emptyPanels(t)
		empty = slices.DeleteFunc(empty, func(query string) bool { return !slices.Contains(now, query) })
	}

	t.Run("health", func(t *testing.T) {
		cluster.MustEventually(t, "all targets to be scraped, after which the operator is not missed any more", func() (string, bool) {
			up, firing := p.query(t, "up == 1"), p.firing(t)
			return fmt.Sprint(up, firing), len(up) == 7 && len(firing) == 0
		})
		from := time.Now()
		for time.Since(from) < healthLasts {
			if firing := p.firing(t); len(firing) > 0 {
				t.Fatalf("in health, %v fires", firing)
			}
			// The operator makes passes.
			_, err := theCluster.Kubectl(t.Context(), "-n", namespace, "annotate", "mcpserver", "web", "--overwrite", "touched="+time.Now().String())
			cluster.Must(t, err)
			time.Sleep(time.Second) // until the next evaluation of the rules
		}
		empty = p.emptyPanels(t)
		var titles []string
		for _, one := range empty {
			words := strings.SplitN(one, ": ", 3)
			titles = append(titles, words[0]+": "+words[1])
		}
		if titles = slices.Compact(titles); !slices.Equal(titles, onlyInIncidents) {
			t.Errorf("in health, the panels without data are\n%s\nwanted\n%s", strings.Join(titles, "\n"), strings.Join(onlyInIncidents, "\n"))
		}
	})

	t.Run("servers", func(t *testing.T) {
		apply(t,
			manifest(namespace, "down", `{image: server, command: [serve], podTemplateSpec: {spec: {nodeSelector: {disk: none}}}}`),
			manifest(namespace, "degraded", `{image: server, command: [serve], replicas: 2, podTemplateSpec: {spec: {affinity: {podAntiAffinity: {
				requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname,
				labelSelector: {matchLabels: {toolhive.stacklok.dev/mcpserver: degraded}}}]}}}}}`),
			manifest(namespace, "stalled", `{image: server}`),
			manifest(namespace, "fight", `{image: server, command: [serve], replicas: 1, replicasConflictPolicy: Force}`),
			manifest(namespace, "fields", `{image: server, command: [serve]}`),
			manifest(namespace, "autoscaled", `{image: server, command: [serve]}`),
			fmt.Sprintf(`{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {namespace: %s, name: autoscaled}, spec: {maxReplicas: 3,
				scaleTargetRef: {apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: autoscaled}}}`, namespace),
		)
		repeat(t, func(ctx context.Context) {
			_, _ = theCluster.Kubectl(ctx, "-n", namespace, "scale", "statefulset", "fight", "--replicas=3") // it may not exist yet
			_, _ = theCluster.Kubectl(ctx, "-n", namespace, "set", "image", "statefulset", "fields", "mcp=another")
		})
		breakWebhook(t, namespace, "failing")
		apply(t, manifest(namespace, "failing", `{image: server, command: [serve]}`))
		fires("MCPServerDown"+of("down"), "MCPServerDegraded"+of("degraded"), "MCPServerStalled"+of("stalled")+" CommandUnknown",
			"MCPServerFight"+of("fight")+" ScaleFight", "MCPServerFight"+of("fields")+" FieldFight", "MCPServerNotReconciled"+of("failing"),
			"MCPServerAutoscalerProblem"+of("autoscaled")+" AutoscalerOnUndeclared")
	})

	t.Run("runners", func(t *testing.T) {
		for _, pods := range [][]*pod{full, broken} {
			repeat(t, func(ctx context.Context) {
				if session, _ := open(ctx, pods); session != nil {
					t.Errorf("%s has accepted a session", pods[0].name)
				}
			})
		}
		apart[1].kill()
		for _, session := range onApart {
			session.call(t.Context()) // forwarded to the other pod if it has the session; the runner may open it again
		}
		fires("MCPServerSessionsRefused"+of("full"), "MCPServerErrors"+of("broken"), "MCPServerForwardFailures"+of("apart"))
		if p.firing(t)["MCPServerErrors"+of("full")] {
			t.Error("MCPServerErrors fires for a pod that is full")
		}
		stillEmpty()
	})

	t.Run("operator without a leader", func(t *testing.T) {
		cluster.Must(t, operator.Stop())
		lease := &coordinationv1.Lease{}
		key := client.ObjectKey{Namespace: cluster.OperatorNamespace, Name: "mcpserver-operator.toolhive.stacklok.dev"}
		cluster.Must(t, theCluster.Client.Get(t.Context(), key, lease))
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = ptr.To("a process that hangs"), ptr.To[int32](3600)
		lease.Spec.RenewTime = ptr.To(metav1.NowMicro())
		cluster.Must(t, theCluster.Client.Update(t.Context(), lease))
		t.Cleanup(func() { cluster.Must(t, theCluster.Client.Delete(context.Background(), lease)) })
		cluster.Must(t, operator.Start(t.Context()))
		p.scrapeOperator(t)
		apply(t, manifest(namespace, "web", "{image: server:2, command: [serve], replicas: 2}"))
		fires("MCPServerNotReconciled" + of("web"))
		if stillEmpty(); len(empty) > 0 {
			t.Errorf("after all incidents, panels have no data:\n%s", strings.Join(empty, "\n"))
		}
	})

	t.Run("operator gone", func(t *testing.T) {
		cluster.Must(t, operator.Kill())
		t.Cleanup(func() { cluster.Must(t, operator.Start(context.Background())) })
		fires("MCPServerOperatorDown")
	})

	for _, alert := range readRules(t).alerts() {
		if !fired[alert.Alert] {
			t.Errorf("no incident of the test is for %s", alert.Alert)
		}
	}
}
