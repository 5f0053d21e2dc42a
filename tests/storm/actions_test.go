package storm

import (
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/scale"
)

// actions are all actions that the storm can draw.
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
		"add or remove a variable":              w.setVariable,
		"edit or remove the record annotation":  w.editRecord,
		"scale under a hostile manager name":    w.scaleAs,
		"remove the record of ownership":        w.loseOwnership,
		"remove the status":                     w.removeStatus,
		"change or delete another child":        w.meddle,
		"two writers scale alternately":         w.scaleByTurns,
		"somebody sets another image":           w.setImage,
		"reads fail":                            w.failReads,
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
		return // the StatefulSet controller wrote first
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
	w.someoneScales(t, 1) // the default of the StatefulSet API
}

func (w *world) rolloutRestart(t *rapid.T) {
	kept, err := w.requests().RolloutRestart(w.ctx, fmt.Sprint(w.now.UnixNano()))
	check(t, err)
	w.foreign["kubectl rollout restart"] = kept
	w.rollouts++
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
	w.rollouts++
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
	w.image = fmt.Sprintf("registry.example/server:%d", rapid.IntRange(1, 9).Draw(t, "image"))
	w.patchServer(t, `{"spec":{"image":%q}}`, w.image)
	w.rollouts++
	w.settle(t)
}

// setVariable adds a variable to the MCPServer or removes it. The operator must remove the variable from the StatefulSet even if
// managedFields were lost.
func (w *world) setVariable(t *rapid.T) {
	w.hasVariable = rapid.Bool().Draw(t, "present")
	check(t, w.requests().SetVariable(w.ctx, w.hasVariable))
	w.rollouts++
	w.settle(t)
}

func (w *world) scaleAs(t *rapid.T) {
	replicas := drawReplicas(t)
	check(t, w.requests().ScaleAs(w.ctx, rapid.SampledFrom(scale.HostileManagers).Draw(t, "manager"), replicas))
	w.someoneScales(t, replicas)
}

func (w *world) loseOwnership(t *rapid.T) {
	random := drawRandom(t)
	child := w.requests().RandomChild(random)
	_, isSet := child.(*appsv1.StatefulSet)
	w.lost = w.lost || isSet
	check(t, client.IgnoreNotFound(w.requests().LoseOwnership(w.ctx, child, random))) // the operator may be down, and the child deleted
	w.settle(t)
}

// removeStatus removes the status, which records the scale with which the operator recreates a StatefulSet.
func (w *world) removeStatus(t *rapid.T) {
	check(t, w.requests().RemoveStatus(w.ctx))
	w.settle(t)
}

func (w *world) meddle(t *rapid.T) {
	check(t, w.requests().Meddle(w.ctx, drawRandom(t)))
	w.settle(t)
}

// scaleByTurns makes two writers scale in turn. Even in a fight, with an operator that restarts or has a stale cache, the scale must always
// be a number that a writer or the MCPServer requested.
func (w *world) scaleByTurns(t *rapid.T) {
	for i := range 6 {
		replicas := drawReplicas(t)
		check(t, w.requests().ScaleAs(w.ctx, []string{"one", "another"}[i%2], replicas))
		w.model.SomeoneScales(replicas)
		w.allowed = append(w.allowed, replicas)
		w.provoke(t)
	}
	w.settle(t)
}

// setImage sets another image repeatedly. In the end, the StatefulSet must have the image of the MCPServer.
func (w *world) setImage(t *rapid.T) {
	for i := range rapid.IntRange(1, 6).Draw(t, "times") {
		check(t, w.requests().SetImage(w.ctx, fmt.Sprint("registry.example/other:", i)))
		w.rollouts += 2 // the operator restores the image
		w.provoke(t)
	}
	w.settle(t)
}

// provoke runs the operator one second after a change by another writer. Such changes can become a fight.
func (w *world) provoke(t *rapid.T) {
	w.now = w.now.Add(time.Second)
	if w.down {
		return
	}
	if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
		o, err := newOperator(w)
		check(t, err)
		w.operators = []*operatorUnderTest{o}
	}
	if w.model.Declared != nil {
		w.allowed = append(w.allowed, *w.model.Declared)
	}
	w.lag(t, w.operators...)
	for range 2 {
		_, err := w.operators[0].pass(w.ctx, w, 0, 0)
		checkPass(t, err)
	}
	if forced := w.model.Policy == v1beta1.ReplicasConflictForce && w.model.Declared != nil; forced {
		w.model.Replicas, w.model.Ours = *w.statefulSet(t).Spec.Replicas, *w.statefulSet(t).Spec.Replicas == *w.model.Declared
	}
}

// failReads makes all uncached reads fail in the first pass of a new operator, which has a new image to roll out. The pass must fail, and must
// change neither the pod template nor status.scale nor status.ready. An operator that has once confirmed its cache needs no such read.
func (w *world) failReads(t *rapid.T) {
	w.beUp(t)
	o, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{o}
	before, next := &v1beta1.MCPServer{}, "registry.example/server:read"
	check(t, theCluster.Client.Get(w.ctx, w.key, before))
	if w.image == next {
		next += "-again"
	}
	w.patchServer(t, `{"spec":{"image":%q}}`, next)
	if err := w.operators[0].passWithoutReads(w.ctx, w, rapid.SampledFrom([]int{403, 429, 500, 503}).Draw(t, "code")); err == nil {
		t.Fatal("a pass without reads did not fail")
	}
	after := &v1beta1.MCPServer{}
	check(t, theCluster.Client.Get(w.ctx, w.key, after))
	if !equality.Semantic.DeepEqual(before.Status.Scale, after.Status.Scale) || before.Status.Ready != after.Status.Ready {
		t.Fatalf("the status was %+v, and is %+v after a pass without reads", before.Status, after.Status)
	}
	check(t, scale.JudgeTemplate(w.statefulSet(t), w.image, w.hasVariable))
	w.image = next
	w.rollouts++
	w.settle(t)
}

func (w *world) patchServer(t rapid.TB, format string, args ...any) {
	check(t, w.requests().EditServer(w.ctx, format, args...))
}

// editRecord edits or removes the annotation that records the declaration. Neither is a declaration, and neither repeats a declaration.
func (w *world) editRecord(t *rapid.T) {
	value := fmt.Sprintf("%q", rapid.SampledFrom([]string{"0", "1", "2", "3", "many", ""}).Draw(t, "value"))
	if rapid.Bool().Draw(t, "remove") {
		value = "null"
	}
	check(t, w.requests().EditRecord(w.ctx, value))
	w.settle(t)
}

// delete deletes the StatefulSet. The operator must recreate it with the same scale. The operator can only restore a scale that it has seen,
// so it runs first.
func (w *world) delete(t *rapid.T) {
	w.beUp(t)
	w.deleteStatefulSet(t, rapid.SampledFrom([]metav1.DeletionPropagation{
		metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
	}).Draw(t, "propagation"))
	w.model.SomeoneDeletes()
	w.settle(t)
}

// recreate deletes the MCPServer and creates a new one with the same name. The old MCPServer must not affect the scale of the new one.
func (w *world) recreate(t *rapid.T) {
	w.beUp(t)
	set := w.statefulSet(t)
	check(t, theCluster.Client.Delete(w.ctx, &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.key.Namespace, Name: w.key.Name},
	}))
	if rapid.Bool().Draw(t, "at once") {
		before := w.model.Replicas
		w.createServer(t)
		w.allowed = append(w.allowed, before)
		_, err := w.operators[0].pass(w.ctx, w, 0, 0) // the StatefulSet still belongs to the old MCPServer
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

// changeLeader starts a new leader. The old leader can still finish a pass.
func (w *world) changeLeader(t *rapid.T) {
	o, err := newOperator(w)
	check(t, err)
	w.operators = append([]*operatorUnderTest{o}, w.operators...)
	w.settle(t)
}

// drawRandom returns a source of random numbers for choices in other packages.
func drawRandom(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
}

// goDown requires a running operator, and comeUp a stopped operator. Skip does not end the test: rapid draws another action instead.
func (w *world) goDown(t *rapid.T) {
	if w.down {
		t.Skip("the operator is down already")
	}
	w.down = true
}

// beUp starts the operator if it is down.
func (w *world) beUp(t *rapid.T) {
	if w.down {
		w.comeUp(t)
	}
}

func (w *world) comeUp(t *rapid.T) {
	if !w.down {
		t.Skip("the operator is up already")
	}
	w.down = false
	w.settle(t)
}
