package storm

import (
	"context"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/tests/scale"
)

// mostLag is the maximum number of events that a cache can be behind. The StatefulSet controller alone causes several events for each change
// of the scale, so a smaller lag would not reach the versions before the change.
const mostLag = 12

// TestStorm verifies the operator in random sequences of actions. After each step, the scale must match the model. In between, only allowed
// scales may occur.
func TestStorm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		defer w.close(t)
		w.begin(t)
		t.Repeat(w.actions())
		w.foreignFieldsAreThere(t)
	})
}

// world is one MCPServer, its environment, and the state of the model.
type world struct {
	ctx       context.Context
	key       client.ObjectKey
	model     scale.Model
	sets      *history[*appsv1.StatefulSet]
	servers   *history[*v1beta1.MCPServer]
	now       time.Time
	operators []*operatorUnderTest // the leader is first; a former leader can run once more
	down      bool                 // the operator is not running
	judged    int                  // the number of versions of the StatefulSet that have been judged
	foreign   map[string]scale.Kept
	allowed   []int32 // the scales that are allowed in the current step

	image       string // of the MCPServer
	hasVariable bool   // the MCPServer has the environment variable of scale.Requests.SetVariable
	rollouts    int    // how often the pod template may change in the current step
	lost        bool   // managedFields of a child were removed in this step
}

// image is the first image of each MCPServer.
const image = "registry.example/server:1"

func newWorld(t rapid.TB) *world {
	ctx := context.Background()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "storm-"}}
	check(t, theCluster.Client.Create(ctx, namespace))
	w := &world{
		ctx: ctx, key: client.ObjectKey{Namespace: namespace.Name, Name: "web"},
		now: time.Now(), foreign: map[string]scale.Kept{},
	}
	var err error
	w.sets, err = newHistory(ctx, w.key, &appsv1.StatefulSet{}, &appsv1.StatefulSetList{})
	check(t, err)
	w.servers, err = newHistory(ctx, w.key, &v1beta1.MCPServer{}, &v1beta1.MCPServerList{})
	check(t, err)
	return w
}

// close deletes the namespace, and does not wait for its deletion.
func (w *world) close(t rapid.TB) {
	w.sets.stop()
	w.servers.stop()
	check(t, theCluster.Client.Delete(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.key.Namespace}}))
}

// begin creates the MCPServer and lets the operator settle.
func (w *world) begin(t *rapid.T) {
	o, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{o}
	w.createServer(t)
	w.settle(t)
}

func (w *world) createServer(t *rapid.T) {
	declared := drawDeclared(t)
	policy := drawPolicy(t)
	w.image, w.hasVariable = image, false
	w.model = scale.Model{Declared: declared, Policy: policy, Fresh: true, Replicas: -1}
	check(t, theCluster.Client.Create(w.ctx, &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.key.Namespace, Name: w.key.Name},
		Spec:       v1beta1.MCPServerSpec{Image: image, Replicas: declared, ReplicasConflictPolicy: policy},
	}))
}

// settle runs the operators first with a cache that lags, and then with a fresh cache until nothing is left to write. Then the scale must match
// the model, and only allowed scales may have occurred.
func (w *world) settle(t *rapid.T) {
	if w.down {
		return
	}
	w.now = w.now.Add(2 * time.Minute) // take-backs with this interval are no fight
	before := w.model.Replicas
	w.model.OperatorActs()
	w.allowed = append(w.allowed, before, w.model.Replicas)

	w.lag(t, w.operators...)
	w.run(t, w.operators[0])
	if former := w.operators[1:]; len(former) > 0 {
		// Its cache can still show the state before the passes of the new leader.
		w.lag(t, former...)
		w.run(t, w.operators[0])
	}
	w.judge(t)
	w.judgeEnd(t)
	w.operators = w.operators[:1]
}

// lag runs operators with caches that lag. The lag is drawn separately for each kind of object.
func (w *world) lag(t *rapid.T, operators ...*operatorUnderTest) {
	for range rapid.IntRange(0, 2).Draw(t, "passes on a lagging cache") {
		o := operators[rapid.IntRange(0, len(operators)-1).Draw(t, "operator")]
		_, err := o.pass(w.ctx, w, drawLag(t, "lag of the MCPServer"), drawLag(t, "lag of the StatefulSet"))
		checkPass(t, err)
	}
}

func drawLag(t *rapid.T, what string) int { return rapid.IntRange(0, mostLag).Draw(t, what) }

// run runs an operator with a fresh cache until two consecutive passes write nothing.
func (w *world) run(t rapid.TB, o *operatorUnderTest) {
	const most = 40
	for pass, quiet := 0, 0; quiet < 2; pass++ {
		writes, err := o.pass(w.ctx, w, 0, 0)
		checkPass(t, err)
		if writes == 0 && w.exists(t) {
			quiet++
		} else {
			quiet = 0
		}
		if pass == most {
			t.Fatalf("the operator still writes after %d passes (%s)", pass, &w.model)
		}
	}
}

// exists reports whether the StatefulSet exists, belongs to the current MCPServer, and is not being deleted.
func (w *world) exists(t rapid.TB) bool {
	set, server := &appsv1.StatefulSet{}, &v1beta1.MCPServer{}
	check(t, client.IgnoreNotFound(theCluster.Client.Get(w.ctx, w.key, set)))
	check(t, theCluster.Client.Get(w.ctx, w.key, server))
	if set.UID == "" || set.DeletionTimestamp != nil || !metav1.IsControlledBy(set, server) {
		time.Sleep(10 * time.Millisecond) // the garbage collector needs time
		return false
	}
	return true
}

// judge compares each version of the StatefulSet since the last call with the allowed scales, and the current version with the model.
func (w *world) judge(t rapid.TB) {
	check(t, w.sets.sync(w.ctx))
	versions := w.sets.since(w.judged)
	if rollouts := scale.Rollouts(w.sets.since(max(w.judged-1, 0))); rollouts > w.rollouts {
		t.Fatalf("the pod template has changed %d times, allowed were %d (%s)", rollouts, w.rollouts, &w.model)
	}
	w.rollouts = 0
	for _, set := range versions {
		if set != nil && !slices.Contains(w.allowed, *set.Spec.Replicas) {
			t.Fatalf("the StatefulSet was at %d in between, allowed were %v (%s)", *set.Spec.Replicas, w.allowed, &w.model)
		}
	}
	w.judged += len(versions)
	live := w.statefulSet(t)
	if got := *live.Spec.Replicas; got != w.model.Replicas {
		t.Fatalf("the StatefulSet is at %d, wanted %d (%s)", got, w.model.Replicas, &w.model)
	}
	w.allowed = []int32{w.model.Replicas}
}

// judgeEnd judges everything besides the scale when the operator has nothing left to do: the pod template, the other children, the owners of the
// fields, and the status.
func (w *world) judgeEnd(t rapid.TB) {
	set, server := w.statefulSet(t), &v1beta1.MCPServer{}
	check(t, theCluster.Client.Get(w.ctx, w.key, server))
	owners, err := ownership.OwnersOf(set, observe.ReplicasPath)
	check(t, err)
	ours := ownership.Owns(owners, observe.Self)
	if w.lost {
		// Kubernetes recorded no writer of the scale while managedFields were lost. The operator may or may not own the declared number.
		w.model.Ours, w.lost = ours, false
	}
	if ours != w.model.Ours {
		t.Fatalf("the operator owns the scale: %t, wanted %t (%s)", ours, w.model.Ours, &w.model)
	}
	check(t, scale.JudgeStatus(server.Status.Scale, w.model))
	check(t, scale.JudgeTemplate(set, w.image, w.hasVariable))
	check(t, w.requests().JudgeChildren(w.ctx, server))
	w.foreignFieldsAreThere(t)
}

// someoneScales records that another client has written the scale, and lets the operator settle.
func (w *world) someoneScales(t *rapid.T, replicas int32) {
	w.allowed = append(w.allowed, replicas)
	w.model.SomeoneScales(replicas)
	w.settle(t)
}

// requests returns the requests of other clients.
func (w *world) requests() scale.Requests {
	return scale.Requests{Client: theCluster.Client, Key: w.key}
}

func (w *world) statefulSet(t rapid.TB) *appsv1.StatefulSet {
	set := &appsv1.StatefulSet{}
	check(t, theCluster.Client.Get(w.ctx, w.key, set))
	return set
}

// foreignFieldsAreThere fails if something that other clients have added to the StatefulSet is missing.
func (w *world) foreignFieldsAreThere(t rapid.TB) {
	set := w.statefulSet(t)
	for what, there := range w.foreign {
		if !there(set) {
			t.Fatalf("%s is gone", what)
		}
	}
}

// deleteStatefulSet deletes the StatefulSet and waits for the deletion. The additions of other clients are deleted with it.
func (w *world) deleteStatefulSet(t *rapid.T, propagation metav1.DeletionPropagation) {
	set := w.statefulSet(t)
	check(t, theCluster.Client.Delete(w.ctx, set, client.PropagationPolicy(propagation)))
	_, err := w.operators[0].pass(w.ctx, w, drawLag(t, "lag of the MCPServer"), drawLag(t, "lag of the StatefulSet"))
	checkPass(t, err)
	w.waitGone(t, set.UID)
	clear(w.foreign)
}

func (w *world) waitGone(t rapid.TB, uid types.UID) {
	err := wait.PollUntilContextTimeout(w.ctx, 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		set := &appsv1.StatefulSet{}
		err := theCluster.Client.Get(ctx, w.key, set)
		return apierrors.IsNotFound(err) || set.UID != uid, client.IgnoreNotFound(err)
	})
	check(t, err)
}

// checkPass fails if a pass failed.
func checkPass(t rapid.TB, err error) {
	if err != nil {
		t.Fatalf("a pass failed: %v", err)
	}
}

func check(t rapid.TB, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// drawReplicas draws mostly small numbers, because each pod takes time.
func drawReplicas(t *rapid.T) int32 {
	return rapid.OneOf(rapid.Int32Range(0, 4), rapid.Int32Range(0, 4), rapid.Int32Range(0, 50)).Draw(t, "replicas")
}

func drawDeclared(t *rapid.T) *int32 {
	if !rapid.Bool().Draw(t, "declared") {
		return nil
	}
	replicas := drawReplicas(t)
	return &replicas
}

func drawPolicy(t *rapid.T) v1beta1.ReplicasConflictPolicy {
	return rapid.SampledFrom([]v1beta1.ReplicasConflictPolicy{
		v1beta1.ReplicasConflictYield, v1beta1.ReplicasConflictForce,
	}).Draw(t, "policy")
}
