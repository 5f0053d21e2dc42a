// Package plan decides what a pass does to the children of an MCPServer. A Plan is data: for every child, what is done against which
// version of it, and why. Order and precedence are decided here and nowhere else. It is pure: the operator carries a Plan out, --preview
// prints it, and tests compare it with tables.
package plan

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/scale"
)

// Action is what a step does.
type Action string

const (
	// Keep writes nothing: the child is as asked for.
	Keep Action = "Keep"
	// Create applies a child that is absent. The API server refuses it if there is one.
	Create Action = "Create"
	// Apply applies a child against the version that was seen.
	Apply Action = "Apply"
	// Migrate makes what a predecessor owns in a child the operator's own, so that a field that the MCPServer drops later goes away. No
	// value changes.
	Migrate Action = "Migrate"
	// Repair gives a child that has lost its managedFields an entry of the operator's. No value changes.
	Repair Action = "Repair"
	// Correct changes a value that an apply cannot change: see correction.
	Correct Action = "Correct"
	// Release gives up the claim on the scale. Its value does not change.
	Release Action = "Release"
	// Delete deletes the very version of a child that was seen, because it is no longer wanted.
	Delete Action = "Delete"
	// BackOff leaves what somebody has changed as it is for a while, in a fight.
	BackOff Action = "BackOff"
	// Wait leaves a child for later.
	Wait Action = "Wait"
	// Refuse leaves an object alone that the MCPServer does not control.
	Refuse Action = "Refuse"
	// Invalid leaves a child as it is because the MCPServer asks for something that cannot be written.
	Invalid Action = "Invalid"
)

// Step is what is done to one child.
type Step struct {
	observe.Child
	Action Action
	// Reason is why, in words for the log and for --preview.
	Reason string
	// Live is the child as it was seen. A write counts for its UID and its resourceVersion only. Nil if there is none.
	Live client.Object
	// Want is what Create and Apply apply.
	Want runtime.ApplyConfiguration
	// Patch is the JSON patch of Migrate, Repair, Correct and Release. It tests the resourceVersion.
	Patch []ownership.Operation
	// Confirm is true if the MCPServer itself has to be current, its status included: the cache may be older than what was already carried
	// out.
	Confirm bool
	// ForgetDeclaration is true if the status has to forget a declaration that is gone before this step. The status counts where the
	// StatefulSet has no record: the same number, declared again before this pass could report, would be taken for carried out.
	ForgetDeclaration bool
	// Undoes are the changes of others that Apply and Correct undo, and that BackOff leaves.
	Undoes []Change
	// Until is when BackOff ends.
	Until time.Time
	// Err is why a step is Invalid.
	Err error
	// digest identifies Want: see Converged.
	digest uint64
	// built is what was found out about the StatefulSet: see Converged.
	built built
	// left is what others keep in the child: see Residue.
	left []left
}

// Writes reports whether a step sends a write.
func (s *Step) Writes() bool {
	switch s.Action {
	case Create, Apply, Migrate, Repair, Correct, Release, Delete:
		return true
	default:
		return false
	}
}

// IsFirst reports whether a write of a step is followed by another one in the next pass, which has to see the first.
func (s *Step) IsFirst() bool {
	switch s.Action {
	case Migrate, Repair, Correct, Release:
		return true
	default:
		return false
	}
}

// Plan is what a pass does, in this order. What the pods refer to comes before the StatefulSet, and what they no longer refer to goes
// after it.
type Plan struct {
	Steps []Step
	// Scale is the decision about the scale. The step of the StatefulSet carries it out.
	Scale scale.Verdict
	// Update is a pod template that is not applied; nil if there is none.
	Update *Update
}

// Applies reports whether a plan changes a child that there is to what is asked for. The generation of the MCPServer has to be the present
// one: a new leader with an old cache would go back to what was asked for before, and forth again.
func (p *Plan) Applies() bool {
	return slices.ContainsFunc(p.Steps, func(step Step) bool { return step.Action == Apply })
}

// StatefulSet is the step of the StatefulSet; nil if there is none.
func (p *Plan) StatefulSet() *Step {
	for i := range p.Steps {
		if p.Steps[i].Kind == observe.KindStatefulSet {
			return &p.Steps[i]
		}
	}
	return nil
}

// Settings are what a plan depends on besides the snapshot.
type Settings struct {
	// Cluster is what the pods depend on besides their MCPServer. If its IPFamily is unknown, a StatefulSet is created when a Service
	// tells it.
	Cluster applyconfigs.Cluster
	// UpdateTemplates has the pod templates of this operator applied at once, where an operator of another revision has made them. That
	// restarts pods.
	UpdateTemplates bool
}

// Make plans a pass.
func Make(s *observe.Snapshot, verdict scale.Verdict, settings Settings, memory *Memory) Plan {
	plan := Plan{Scale: verdict}
	m := &maker{Snapshot: s, verdict: verdict, settings: settings, memory: memory}
	add := func(step Step) {
		if step.Action != "" {
			plan.Steps = append(plan.Steps, step)
		}
	}
	server, live := s.Server, &s.Children
	add(stepFor(m, applyconfigs.ServiceAccount(server), live.ServiceAccount, corev1ac.ExtractServiceAccount))
	add(stepFor(m, applyconfigs.HeadlessService(server, s.Fixed), live.HeadlessService, corev1ac.ExtractService))
	add(stepFor(m, applyconfigs.ClientService(server, s.Fixed), live.ClientService, corev1ac.ExtractService))
	add(stepFor(m, applyconfigs.NetworkPolicy(server, s.Fixed), live.NetworkPolicy, networkingv1ac.ExtractNetworkPolicy))
	add(stepFor(m, applyconfigs.PodDisruptionBudget(server, s.Fixed), live.PodDisruptionBudget, policyv1ac.ExtractPodDisruptionBudget))
	set, update := m.statefulSet()
	plan.Update = update
	add(set)
	add(drop(observe.KindServiceAccount, live.ServiceAccount, applyconfigs.WantsServiceAccount(server) || s.AccountInUse || len(s.Stray) > 0))
	add(drop(observe.KindNetworkPolicy, live.NetworkPolicy, applyconfigs.WantsNetworkPolicy(server)))
	add(drop(observe.KindPodDisruptionBudget, live.PodDisruptionBudget, applyconfigs.WantsPodDisruptionBudget(server)))
	return plan
}

// maker is what the step of a child depends on.
type maker struct {
	*observe.Snapshot
	verdict  scale.Verdict
	settings Settings
	memory   *Memory
}

// statefulSet plans the StatefulSet, and with it what is done about the scale. It also returns the pod template that is not applied.
func (m *maker) statefulSet() (Step, *Update) {
	live := m.Children.StatefulSet
	step := Step{Child: observe.Child{Kind: observe.KindStatefulSet, Name: applyconfigs.StatefulSetName(m.Server.Name)}}
	if live != nil {
		step.Live = live
	}
	switch {
	case m.IsForeign(step.Child):
		return refuse(step.Child), nil
	case isGoing(live):
		return waitForDeletion(step.Child, live), nil
	}
	cluster := m.familyOf(m.settings.Cluster)
	if live == nil && cluster.IPFamily == "" {
		step.Action, step.Reason = Wait, "the Service does not exist yet, which tells where the server has to listen"
		return step, nil
	}
	from := m.inputsDigest(cluster)
	if live != nil && m.verdict.Action != scale.Release && len(m.memory.Residues.of(live)) == 0 {
		if is, found := m.memory.Converged.findBuilt(m.Server, step.Child, live, from); found {
			step.Action, step.Reason, step.digest, step.built = Keep, asAskedFor, is.digest, is
			return step, is.update
		}
	}
	want, err := applyconfigs.StatefulSet(m.Server, m.verdict.Apply, m.Fixed, cluster)
	if err != nil {
		step.Action, step.Reason, step.Err = Invalid, "the MCPServer asks for pods that cannot be", &InvalidSpecError{err}
		return step, nil
	}
	update, err := m.keepTemplate(want, live)
	if err != nil {
		return failed(step, err), nil
	}
	if len(m.Stray) > 0 {
		step.Action, step.Reason = Wait, "pods of the StatefulSet that was deleted are not being deleted yet"
		step.Confirm, step.ForgetDeclaration = true, m.forgetsDeclaration()
		return step, nil
	}
	step = stepFor(m, want, live, appsv1ac.ExtractStatefulSet)
	step.built = built{from: from, digest: step.digest, update: update}
	if (step.Action == Keep || step.Action == Apply || step.Action == BackOff) && m.verdict.Action == scale.Release {
		// The apply that leaves the scale out comes with the next pass, when the claim is seen to be gone.
		step = m.release(live, step.Child)
	}
	if step.Writes() && !step.isOfOwnership() && (live == nil || m.verdict.Writes() || recordDiffers(live, m.verdict.Apply.Declared)) {
		step.Confirm, step.ForgetDeclaration = true, m.forgetsDeclaration()
	}
	return step, update
}

// inputsDigest identifies what the StatefulSet is built from besides the live one: the MCPServer, the decision about the scale and the
// cluster.
func (m *maker) inputsDigest(cluster applyconfigs.Cluster) uint64 {
	var hash maphash.Hash
	hash.SetSeed(digestSeed)
	write := func(text string) {
		maphash.WriteComparable(&hash, len(text))
		hash.WriteString(text)
	}
	maphash.WriteComparable(&hash, m.Server.Generation)
	for _, all := range []map[string]string{m.Server.Labels, m.Server.Annotations} {
		maphash.WriteComparable(&hash, len(all))
		for _, key := range slices.Sorted(maps.Keys(all)) {
			write(key)
			write(all[key])
		}
	}
	for _, number := range []*int32{m.verdict.Apply.Replicas, m.verdict.Apply.Declared} {
		maphash.WriteComparable(&hash, number != nil)
		maphash.WriteComparable(&hash, ptr.Deref(number, 0))
	}
	maphash.WriteComparable(&hash, cluster)
	return hash.Sum64()
}

// InvalidSpecError is something in the spec of an MCPServer that the schema of the CRD cannot tell.
type InvalidSpecError struct{ error }

func (e *InvalidSpecError) Unwrap() error { return e.error }

// isOfOwnership reports whether a step changes who owns fields and no value that a decision is about.
// isOfStatefulSet reports whether a step carries out what is asked for of the StatefulSet.
func (s *Step) isOfStatefulSet() bool {
	return s.Kind == observe.KindStatefulSet && (s.Action == Create || s.Action == Apply || s.Action == Release)
}

func (s *Step) isOfOwnership() bool {
	return s.Action == Migrate || s.Action == Repair || s.Action == Correct
}

// forgetsDeclaration reports whether the status remembers a declaration that is gone.
func (m *maker) forgetsDeclaration() bool {
	return m.Server.Spec.Replicas == nil && m.Server.Status.Scale != nil && m.Server.Status.Scale.DeclaredReplicas != nil
}

// familyOf completes the cluster with the IP family of the Services that there are: nobody can change it. A Service that is created gets
// the family that the MCPServer declares, or else that of the cluster.
func (m *maker) familyOf(cluster applyconfigs.Cluster) applyconfigs.Cluster {
	switch {
	case m.Children.ClientService != nil && len(m.Children.ClientService.Spec.IPFamilies) > 0:
		cluster.IPFamily = m.Children.ClientService.Spec.IPFamilies[0]
	case m.Server.Spec.Service != nil && len(m.Server.Spec.Service.IPFamilies) > 0:
		cluster.IPFamily = m.Server.Spec.Service.IPFamilies[0]
	case m.Children.HeadlessService != nil && len(m.Children.HeadlessService.Spec.IPFamilies) > 0:
		cluster.IPFamily = m.Children.HeadlessService.Spec.IPFamilies[0]
	}
	return cluster
}

// recordDiffers reports whether an apply would change the annotation that records the declaration.
func recordDiffers(live *appsv1.StatefulSet, declared *int32) bool {
	record, recorded := live.Annotations[v1alpha1.DeclaredReplicasAnnotation]
	if declared == nil {
		return recorded
	}
	return record != strconv.FormatInt(int64(*declared), 10)
}

// release gives up the claim on the scale without touching its value. If the declaration is gone, its record on the StatefulSet goes
// as well.
func (m *maker) release(live *appsv1.StatefulSet, child observe.Child) Step {
	step := Step{Child: child, Action: Release, Reason: m.verdict.Reason, Live: live}
	paths := []fieldpath.Path{observe.ReplicasPath}
	if m.Server.Spec.Replicas == nil {
		paths = append(paths, observe.DeclaredReplicasPath)
	}
	patch, err := ownership.Release(live, observe.Self, paths...)
	if err != nil {
		return failed(step, err)
	}
	if _, found := live.Annotations[v1alpha1.DeclaredReplicasAnnotation]; found && m.Server.Spec.Replicas == nil {
		patch = append(patch, ownership.Operation{Op: "remove", Path: "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.DeclaredReplicasAnnotation, "/", "~1")})
	}
	step.Patch = patch
	return step
}

// drop plans the end of a child that is no longer wanted.
func drop[L liveObject](kind string, live L, wanted bool) Step {
	var absent L
	if wanted || live == absent || isGoing(live) {
		return Step{}
	}
	return Step{
		Child: observe.Child{Kind: kind, Name: live.GetName()}, Action: Delete, Reason: "the MCPServer no longer asks for it",
		Live: live, Confirm: true,
	}
}

// asAskedFor is the reason of a step that keeps a child.
const asAskedFor = "it is as asked for"

// failed is a step that cannot be planned.
func failed(step Step, err error) Step {
	return Step{Child: step.Child, Action: Invalid, Live: step.Live, Err: fmt.Errorf("planning %s: %w", step.Child, err)}
}
