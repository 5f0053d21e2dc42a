package clients

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// declared maps names of MCPServers to their numbers of replicas, in order and without duplicates.
type declared map[string][]string

func (d declared) add(server, replicas string) {
	if !slices.Contains(d[server], replicas) {
		d[server] = append(d[server], replicas)
	}
}

// declarations are all numbers of replicas that the MCPServers of a namespace have declared, as seen by a watch.
type declarations struct {
	namespace string

	mutex    sync.Mutex
	declared declared
	versions map[string]string // the newest resourceVersion that the watch has returned
}

// recordDeclarations starts to record.
func recordDeclarations(t *testing.T, namespace string) *declarations {
	t.Helper()
	d := &declarations{namespace: namespace, declared: declared{}, versions: map[string]string{}}
	events, err := theCluster.Client.Watch(context.Background(), &v1beta1.MCPServerList{}, client.InNamespace(namespace))
	must(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for event := range events.ResultChan() {
			if server, isServer := event.Object.(*v1beta1.MCPServer); isServer {
				d.see(server)
			}
		}
	})
	t.Cleanup(func() { events.Stop(); done.Wait() })
	return d
}

func (d *declarations) see(server *v1beta1.MCPServer) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.versions[server.Name] = server.ResourceVersion
	if server.Spec.Replicas != nil {
		d.declared.add(server.Name, fmt.Sprint(*server.Spec.Replicas))
	}
}

// except returns the recorded declarations that are not in the given ones. It fails if the watch does not catch up.
func (d *declarations) except(t *testing.T, allowed declared) []string {
	t.Helper()
	eventually(t, "the watch to have seen the current state of every MCPServer", func() (string, bool) {
		var servers v1beta1.MCPServerList
		must(t, theCluster.Client.List(t.Context(), &servers, client.InNamespace(d.namespace)))
		d.mutex.Lock()
		defer d.mutex.Unlock()
		return fmt.Sprint(d.versions), !slices.ContainsFunc(servers.Items, func(server v1beta1.MCPServer) bool {
			return d.versions[server.Name] != server.ResourceVersion
		})
	})
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var stray []string
	for server, numbers := range d.declared {
		for _, n := range numbers {
			if !slices.Contains(allowed[server], n) {
				stray = append(stray, fmt.Sprintf("MCPServer %s had replicas %s", server, n))
			}
		}
	}
	return stray
}

// scaleWrites returns all writes of Argo CD to a scale that Git does not declare. Argo CD must not write the StatefulSet or a scale
// subresource at all.
func (a *application) scaleWrites(t *testing.T) []string {
	t.Helper()
	stray := a.seen.except(t, a.allowed)
	requests, err := theCluster.RequestsSince(a.begun, a.user)
	must(t, err)
	for _, request := range requests {
		if request.IsWrite() && request.Namespace == a.namespace && (request.Resource == "statefulsets" || request.Subresource == "scale") {
			stray = append(stray, request.String())
		}
	}
	return stray
}

// wroteNoScale fails if Argo CD has written a scale that Git does not declare. It also fails if the audit log has no applies of Argo CD,
// because then the absence of writes proves nothing.
func (a *application) wroteNoScale(t *testing.T) {
	t.Helper()
	if stray := a.scaleWrites(t); len(stray) > 0 {
		t.Errorf("Argo CD wrote a scale: %q", stray)
	}
	requests, err := theCluster.RequestsSince(a.begun, a.user)
	must(t, err)
	applies := 0
	for _, request := range requests {
		if request.IsWrite() && request.Resource == "mcpservers" && request.Namespace == a.namespace {
			applies++
		}
	}
	if applies == 0 {
		t.Error("the audit log contains no apply of Argo CD")
	}
}

// TestAWriteOfAScaleByArgoCDShows verifies that the check in TestArgoCD detects each way to write a scale.
func TestAWriteOfAScaleByArgoCDShows(t *testing.T) {
	namespace := newNamespace(t)
	app := newApplication(t, namespace, true)
	app.cycle(t, mcpServer("web", version1, "replicas: 2"))
	scaleIs(t, named(namespace, "web"), 2)
	app.wroteNoScale(t)
	argo, err := client.New(app.config, client.Options{Scheme: theCluster.Client.Scheme()})
	must(t, err)

	set := &appsv1.StatefulSet{}
	set.Namespace, set.Name = namespace, "web"
	server := &v1beta1.MCPServer{}
	server.Namespace, server.Name = namespace, "web"
	for _, row := range []struct {
		way   string
		write func(to client.Patch) error
	}{
		{"the StatefulSet", func(to client.Patch) error {
			return argo.Patch(t.Context(), set.DeepCopy(), to, client.FieldOwner(argoManager))
		}},
		{"the scale of the StatefulSet", func(to client.Patch) error {
			return argo.SubResource("scale").Patch(t.Context(), set.DeepCopy(), to,
				client.WithSubResourceBody(&autoscalingv1.Scale{}), client.FieldOwner(argoManager))
		}},
		{"the MCPServer", func(to client.Patch) error {
			return argo.Patch(t.Context(), server.DeepCopy(), to, client.FieldOwner(argoManager))
		}},
		{"the scale of the MCPServer", func(to client.Patch) error {
			return argo.SubResource("scale").Patch(t.Context(), server.DeepCopy(), to,
				client.WithSubResourceBody(&autoscalingv1.Scale{}), client.FieldOwner(argoManager))
		}},
	} {
		before := app.scaleWrites(t)
		n := len(before) + 3 // a number that was never declared
		must(t, row.write(client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
		if after := app.scaleWrites(t); len(after) <= len(before) {
			t.Errorf("the check does not detect a write of %s: %q", row.way, after)
		}
	}
}
