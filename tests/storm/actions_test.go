package storm

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"mcpserver-operator/crd/v1alpha1"
)

// actions is all that may happen.
func (w *world) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"kubectl scale (PATCH of /scale)":       w.scalePatch,
		"autoscaler (GET and PUT of /scale)":    w.scalePut,
		"kubectl patch":                         w.patch,
		"kubectl apply --server-side":           w.apply,
		"JSON patch that removes replicas":      w.removeReplicas,
		"kubectl rollout restart":               w.rolloutRestart,
		"labels and annotations of others":      w.label,
		"sidecar and env of an injector":        w.inject,
		"declare":                               w.declare,
		"undeclare":                             w.undeclare,
		"change the policy":                     w.changePolicy,
		"change the image":                      w.changeImage,
		"edit or remove the record annotation":  w.editRecord,
		"delete the StatefulSet":                w.delete,
		"delete and recreate the MCPServer":     w.recreate,
		"restart the operator":                  w.restart,
		"change the leader, both still running": w.changeLeader,
		"the operator goes down":                w.goDown,
		"the operator comes up":                 w.comeUp,
	}
}

func (w *world) scalePatch(t *rapid.T) {
	replicas := drawReplicas(t)
	check(t, w.requests().PatchScale(w.ctx, replicas))
	w.someoneScales(t, replicas)
}

func (w *world) scalePut(t *rapid.T) {
	replicas := drawReplicas(t)
	err := w.requests().PutScale(w.ctx, replicas)
	if apierrors.IsConflict(err) {
		return // the StatefulSet controller was faster
	}
	check(t, err)
	w.someoneScales(t, replicas)
}

func (w *world) patch(t *rapid.T) {
	replicas := drawReplicas(t)
	check(t, w.requests().Patch(w.ctx, replicas))
	w.someoneScales(t, replicas)
}

func (w *world) apply(t *rapid.T) {
	replicas := drawReplicas(t)
	force := rapid.Bool().Draw(t, "force")
	err := w.requests().Apply(w.ctx, replicas, force)
	if apierrors.IsConflict(err) && !force {
		w.settle(t)
		return // someone else owns the scale
	}
	check(t, err)
	w.someoneScales(t, replicas)
}

func (w *world) removeReplicas(t *rapid.T) {
	check(t, w.requests().RemoveReplicas(w.ctx))
	w.someoneScales(t, 1) // the default of Kubernetes
}

func (w *world) rolloutRestart(t *rapid.T) {
	kept, err := w.requests().RolloutRestart(w.ctx, fmt.Sprint(w.now.UnixNano()))
	check(t, err)
	w.foreign["kubectl rollout restart"] = kept
	w.settle(t)
}

func (w *world) label(t *rapid.T) {
	kept, err := w.requests().Label(w.ctx)
	check(t, err)
	w.foreign["a label and an annotation"] = kept
	w.settle(t)
}

func (w *world) inject(t *rapid.T) {
	kept, err := w.requests().Inject(w.ctx)
	check(t, err)
	w.foreign["a sidecar and a variable"] = kept
	w.settle(t)
}

func (w *world) declare(t *rapid.T) {
	replicas := drawReplicas(t)
	w.patchServer(t, `{"spec":{"replicas":%d}}`, replicas)
	w.model.Declared = &replicas
	w.settle(t)
}

func (w *world) undeclare(t *rapid.T) {
	w.patchServer(t, `{"spec":{"replicas":null}}`)
	w.model.Declared = nil
	w.settle(t)
}

func (w *world) changePolicy(t *rapid.T) {
	w.model.Policy = drawPolicy(t)
	w.patchServer(t, `{"spec":{"replicasConflictPolicy":%q}}`, w.model.Policy)
	w.settle(t)
}

func (w *world) changeImage(t *rapid.T) {
	w.patchServer(t, `{"spec":{"image":"registry.example/server:%d"}}`, rapid.IntRange(1, 9).Draw(t, "image"))
	w.settle(t)
}

func (w *world) patchServer(t rapid.TB, format string, args ...any) {
	check(t, w.requests().EditServer(w.ctx, format, args...))
}

// editRecord: neither an edit nor the removal of the annotation is a declaration, or makes one count again.
func (w *world) editRecord(t *rapid.T) {
	value := fmt.Sprintf("%q", rapid.SampledFrom([]string{"0", "1", "2", "3", "many", ""}).Draw(t, "value"))
	if rapid.Bool().Draw(t, "remove") {
		value = "null"
	}
	check(t, w.requests().EditRecord(w.ctx, value))
	w.settle(t)
}

// delete: a StatefulSet that comes back keeps its scale. What nobody has seen cannot be kept, so that the operator sees
// it first.
func (w *world) delete(t *rapid.T) {
	w.comeUp(t)
	w.deleteStatefulSet(t, rapid.SampledFrom([]metav1.DeletionPropagation{
		metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
	}).Draw(t, "propagation"))
	w.model.SomeoneDeletes()
	w.settle(t)
}

// recreate: a new MCPServer knows nothing of the one before it.
func (w *world) recreate(t *rapid.T) {
	w.comeUp(t)
	set := w.statefulSet(t)
	check(t, theCluster.Client.Delete(w.ctx, &v1alpha1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.key.Namespace, Name: w.key.Name},
	}))
	if rapid.Bool().Draw(t, "at once") {
		before := w.model.Replicas
		w.createServer(t)
		w.allowed = append(w.allowed, before)
		_, err := w.operators[0].pass(w.ctx, w, 0, 0) // what is there still belongs to the one before
		checkPass(t, err)
		w.waitGone(t, set.UID)
	} else {
		w.waitGone(t, set.UID)
		w.createServer(t)
	}
	clear(w.foreign)
	w.settle(t)
}

func (w *world) restart(t *rapid.T) {
	o, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{o}
	w.settle(t)
}

// changeLeader: the new leader begins while the old one has a pass under way still.
func (w *world) changeLeader(t *rapid.T) {
	o, err := newOperator(w)
	check(t, err)
	w.operators = append([]*operatorUnderTest{o}, w.operators...)
	w.settle(t)
}

// goDown and comeUp are for one state each. Skip does not end the test: rapid draws another action instead.
func (w *world) goDown(t *rapid.T) {
	if w.down {
		t.Skip("the operator is down already")
	}
	w.down = true
}

func (w *world) comeUp(t *rapid.T) {
	if !w.down {
		t.Skip("the operator is up already")
	}
	w.down = false
	w.settle(t)
}
