package upgrade

import (
	"fmt"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestAnUpgradeFromAnEarlierVersion verifies docs/operations.md, "Upgrading from a version without v1beta1". The witness sees each scale and
// each pod at all times, also while no operator runs.
func TestAnUpgradeFromAnEarlierVersion(t *testing.T) {
	theCluster.NeedAuditLog(t) // an existing cluster has a CRD already
	before, present := earlierRelease(t), presentRelease(t)
	before.install(t)
	operator := before.start(t)
	namespace := theCluster.NewNamespace(t, "upgrade-")
	createFleet(t, namespace)
	fleet := watchFleet(t, namespace)

	must(t, operator.Stop())
	present.install(t)
	fleet.onlyRestarted(t, "with the new CRD and without an operator")
	operator = present.start(t)
	passesOverAll(t, operator)
	fleetIs(t, namespace, presentSays())
	fleet.onlyRestarted(t, "after the upgrade")

	must(t, operator.Stop())
	before.installPermissions(t)
	operator = before.start(t)
	passesOverAll(t, operator)
	fleetIs(t, namespace, earlierSays)
	fleet.onlyRestarted(t, "after the rollback")

	must(t, operator.Stop())
	present.installPermissions(t)
	operator = present.start(t)
	passesOverAll(t, operator)
	fleetIs(t, namespace, presentSays())
	fleet.onlyRestarted(t, "after the second upgrade")

	// Users ask for new pods of three MCPServers, and for something that does not change the pods of a fourth.
	kubectl(t, namespace, newServer, "apply", "--server-side", "-f", "-")
	kubectl(t, namespace, "", "patch", "mcpserver", "declared-0", "--type=merge", "-p", `{"spec":{"image":"registry.example/server:2"}}`)
	asked := mcpServers(t, namespace)["scaled-1"]
	kubectl(t, namespace, "", "annotate", "mcpserver", "scaled-1",
		v1beta1.UpdatePodTemplateAnnotation+"="+applyconfigs.TemplateVersion(&asked, applyconfigs.Cluster{RunnerImage: runnerImage}))
	kubectl(t, namespace, "", "patch", "mcpserver", "yielded-0", "--type=merge", "-p", `{"spec":{"minReadySeconds":1}}`)
	fleetIs(t, namespace, presentSays("declared-0", "scaled-1"))
	conditionOfNewServer(t, namespace, v1beta1.ConditionReady)
	fleet.onlyRestarted(t, "after requests of users", "declared-0", "new", "scaled-1")

	// The earlier operator puts its own pod template back, where the present one has replaced it. It may not adopt what the present one created.
	must(t, operator.Stop())
	before.installPermissions(t)
	operator = before.start(t)
	passesOverAll(t, operator)
	fleetIs(t, namespace, earlierSays)
	conditionOfNewServer(t, namespace, v1beta1.ConditionStalled)
	fleet.onlyRestarted(t, "after a rollback that comes late", "declared-0", "scaled-1")

	must(t, operator.Stop())
	present.installPermissions(t)
	operator = present.start(t)
	passesOverAll(t, operator)
	fleetIs(t, namespace, presentSays("scaled-1"))
	conditionOfNewServer(t, namespace, v1beta1.ConditionReady)
	fleet.onlyRestarted(t, "after the last upgrade", "scaled-1") // its request for the pod template is still there
}

const newServer = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: new}
spec: {image: "registry.example/server:1", transport: streamable-http}
`

func conditionOfNewServer(t *testing.T, namespace, condition string) {
	t.Helper()
	eventually(t, "the condition "+condition+" of the new MCPServer", func() (string, bool) {
		conditions := mcpServers(t, namespace)["new"].Status.Conditions
		return fmt.Sprint(conditions), apimeta.IsStatusConditionTrue(conditions, condition)
	})
}

func passesOverAll(t *testing.T, operator *cluster.Operator) {
	t.Helper()
	must(t, operator.WaitForPassOverAll(t.Context()))
}
