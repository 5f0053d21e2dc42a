// Package reconcile reconciles the children of an MCPServer with its spec, with server-side apply only, and reports the status. Data goes one way
// through a pass, and each step is a function from values to values: observe, decide, plan, act, report.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/act"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/registry"
	"mcpserver-operator/reconcile/scale"
	"mcpserver-operator/reconcile/status"
)

// Reconciler reconciles MCPServers. All exported fields but Settings and ReadImage are required.
type Reconciler struct {
	// Client reads from the cache and writes to the API server.
	Client client.Client
	// APIReader reads from the API server, for decisions that must not use a stale cache.
	APIReader client.Reader
	// Recorder records the events of MCPServers.
	Recorder events.EventRecorder
	// Settings are the inputs of plans other than the objects.
	Settings plan.Settings
	// Now is the clock.
	Now func() time.Time
	// ReadImage looks up an image in its registry. If nil, images are not looked up.
	ReadImage func(ctx context.Context, image string) (registry.Image, error)

	once     sync.Once
	reader   *observe.Reader
	writer   *act.Writer
	memory   *plan.Memory
	progress status.Progress
	images   *images
}

// start creates the components of a pass.
func (r *Reconciler) start() {
	r.memory = plan.NewMemory()
	r.reader = &observe.Reader{Client: r.Client, APIReader: r.APIReader, Seen: r.memory.Seen, Cluster: r.Settings.Cluster}
	if r.images != nil {
		r.reader.Images = r.images
	}
	r.writer = &act.Writer{Client: r.Client, APIReader: r.APIReader, Status: &act.StatusWriter{
		Client: r.Client, Written: r.statusWritten, Unanswered: r.memory.Seen.ForgetScale,
	}}
}

// Reconcile makes one pass over one MCPServer.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	r.once.Do(r.start)
	server := &v1beta1.MCPServer{}
	if err := r.Client.Get(ctx, request.NamespacedName, server); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(request.NamespacedName)
			return reconcile.Result{}, nil // the garbage collector deletes the children
		}
		return reconcile.Result{}, fmt.Errorf("reading the MCPServer: %w", err)
	}
	now := metav1.NewTime(r.Now()).Rfc3339Copy()
	if !server.DeletionTimestamp.IsZero() {
		return finish(0, r.writer.Status.Write(ctx, server, status.Terminating(server, now)))
	}
	behind := r.writer.Status.IsAhead(server)
	edited := !behind && r.restoreRecord(server)

	snapshot, err := r.reader.Snapshot(ctx, server, now)
	if err != nil {
		return finish(0, r.reportNotSeen(ctx, server, err, now))
	}
	p := r.plan(snapshot)
	results := r.writer.CarryOut(ctx, server, p)
	if err := r.remember(ctx, snapshot, p, results); err != nil {
		return finish(0, err)
	}
	failure := status.Failure(results)
	switch {
	case act.IsTerminating(failure):
		return finish(0, failure)
	case failure == nil && results.HaveMoreToWrite():
		return repeatAfter(settleAfter, 0), nil
	case failure == nil && status.IsOutdated(p, results):
		return repeatAfter(settleAfter, reportPriority), nil
	}
	wrote, postponed, err := r.report(ctx, snapshot, p, results, edited)
	if act.IsStale(err) {
		return finish(settleAfter, failure)
	}
	return finish(nextLook(snapshot, p, results, wrote || behind, postponed), errors.Join(failure, err))
}

// terminatingAfter is the time until the next pass over an MCPServer in a namespace that is being deleted. It is usually deleted with the namespace. It
// outlives the namespace if the API server does not serve MCPServers when the namespace controller deletes them, because somebody replaces the CRD.
const terminatingAfter = 10 * time.Second

// finish returns the result of a pass. The rate limiter retries a failed pass. A pass on a stale cache is repeated after settleAfter, and one in a
// namespace that is being deleted after terminatingAfter. Any other pass is repeated after the given time; zero means that it is not repeated.
func finish(after time.Duration, err error) (reconcile.Result, error) {
	switch {
	case act.IsStale(err):
		return repeatAfter(settleAfter, 0), nil
	case act.IsTerminating(err):
		return repeatAfter(terminatingAfter, reportPriority), nil
	case err != nil:
		return reconcile.Result{Priority: ptr.To(reportPriority)}, boundedError{err}
	default:
		return repeatAfter(after, reportPriority), nil
	}
}

// mostLogged is the maximum length of the text of an error in the log, in bytes. The texts of webhooks have no limit.
const mostLogged = 4 << 10

// boundedError is an error with a text of bounded length.
type boundedError struct{ error }

func (e boundedError) Error() string { return status.Bounded(e.error.Error(), mostLogged) }

func (e boundedError) Unwrap() error { return e.error }

// repeatAfter requests another pass after the given time; zero means that none is needed.
func repeatAfter(after time.Duration, priority int) reconcile.Result {
	return reconcile.Result{RequeueAfter: after, Priority: &priority}
}

// plan makes the plan of a pass. It is empty while the MCPServer is suspended, or ToolHive's operator is in charge of it.
func (r *Reconciler) plan(s *observe.Snapshot) plan.Plan {
	if s.Server.Spec.Suspend || s.Server.IsOfToolHive() {
		return plan.Plan{}
	}
	return plan.Make(s, scale.Decide(s.ScaleInput()), r.Settings, r.memory)
}

// remember records the results of a pass in memory, in metrics and in events, and records the scale in the status.
func (r *Reconciler) remember(ctx context.Context, s *observe.Snapshot, p plan.Plan, results plan.Results) error {
	r.memory.Remember(s, results)
	countApplies(results)
	r.record(s.Server, status.OfPass(s, p.Scale, results))
	if results.StatefulSet() == nil || !p.Scale.Writes() {
		return nil
	}
	logf.FromContext(ctx).Info("Carried out a decision about the scale", "action", p.Scale.Action, "reason", p.Scale.Reason)
	next, has := status.ScaleWritten(s, p.Scale)
	if !has {
		return nil
	}
	if p.Scale.Action == scale.TakeBack && scale.IsFight(next.Scale.TakeBacks, s.Now.Time) {
		scaleFights.Inc()
	}
	return r.writer.Status.Write(ctx, s.Server, next)
}

// report writes the status if it has changed. It returns whether it has, and for how long a progress report is still delayed. Edited is true if
// another writer has changed the status on the API server.
func (r *Reconciler) report(
	ctx context.Context, s *observe.Snapshot, p plan.Plan, results plan.Results, edited bool,
) (wrote bool, postponed time.Duration, err error) {
	key := client.ObjectKeyFromObject(s.Server)
	next := status.Next(s, p, results)
	if edited {
		return true, 0, r.writer.Status.Put(ctx, s.Server, next)
	}
	if postponed = r.progress.Postpone(key, &s.Server.Status, &next, s.Now.Time); postponed > 0 {
		return false, postponed, nil
	}
	wrote = !equality.Semantic.DeepEqual(s.Server.Status, next)
	if err := r.writer.Status.Write(ctx, s.Server, next); err != nil {
		return wrote, 0, err
	}
	if wrote {
		r.progress.Forget(key)
	}
	return wrote, 0, nil
}

// reportNotSeen reports that a pass could not read all objects. It returns the error, so that the pass is retried.
func (r *Reconciler) reportNotSeen(ctx context.Context, server *v1beta1.MCPServer, err error, now metav1.Time) error {
	if act.IsStale(err) || act.IsTerminating(err) {
		return err
	}
	if reportErr := r.writer.Status.Write(ctx, server, status.NotSeen(server, err, now)); !act.IsStale(reportErr) {
		return errors.Join(err, reportErr)
	}
	return err
}

// restoreRecord restores the record of the scale if another writer has removed or changed it in the status, because a recreated StatefulSet gets
// this scale. It reports whether it has restored the record. It restores only a record that this process has written: a record that it has
// read may be older than the last record of another operator process.
func (r *Reconciler) restoreRecord(server *v1beta1.MCPServer) bool {
	recorded := r.memory.Seen.ScaleOf(server)
	if recorded == nil || equality.Semantic.DeepEqual(server.Status.Scale, recorded) {
		return false
	}
	server.Status.Scale = recorded
	return true
}

// statusWritten records the changes of a written status.
func (r *Reconciler) statusWritten(before *v1beta1.MCPServer, now v1beta1.MCPServerStatus) {
	if now.Scale != nil {
		r.memory.Seen.Scale(before, now.Scale)
	}
	countTransfer(before.Status.Scale, now.Scale)
	r.record(before, status.OfStatus(before, now))
}

func (r *Reconciler) record(server *v1beta1.MCPServer, all []status.Event) {
	for _, event := range all {
		var related runtime.Object
		if event.Related != nil {
			related = event.Related
		}
		r.Recorder.Eventf(server, related, event.Type, event.Reason, event.Action, "%s", event.Note)
	}
}

func (r *Reconciler) forget(server types.NamespacedName) {
	r.progress.Forget(server)
	r.memory.Forget(server)
	r.reader.Forget(server)
	r.writer.Forget(server)
	if r.images != nil {
		r.images.Forget(server)
	}
}
