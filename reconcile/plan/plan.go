// Package plan decides what a pass does to the children of an MCPServer. A Plan is data: for each child, the action, the version of the child,
// and the reason. Only this package decides order and precedence. It is pure: the operator carries a Plan out, --preview prints it, and
// tests compare it with tables.
package plan

import (
	"errors"
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
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/scale"
)

// Action is what a step does.
type Action string

const (
	// Keep writes nothing: the child matches the MCPServer.
	Keep Action = "Keep"
	// Create applies an absent child. The API server rejects the apply if the child exists.
	Create Action = "Create"
	// Apply applies a child, only to the version that was read.
	Apply Action = "Apply"
	// Migrate moves the ownership of fields from a predecessor to the operator, so that a field is removed when the MCPServer drops it. No
	// value changes.
	Migrate Action = "Migrate"
	// Repair adds an entry of the operator to a child whose managedFields were removed. No value changes.
	Repair Action = "Repair"
	// Correct changes a value that an apply cannot change: see correction.
	Correct Action = "Correct"
	// Release gives up the ownership of the scale. The value does not change.
	Release Action = "Release"
	// Delete deletes a child that is no longer wanted, only in the version that was read.
	Delete Action = "Delete"
	// BackOff leaves a change of another writer in place for some time, in a fight.
	BackOff Action = "BackOff"
	// Wait leaves a child for a later pass.
	Wait Action = "Wait"
	// Refuse leaves an object unchanged that the MCPServer does not control.
	Refuse Action = "Refuse"
	// Invalid leaves a child unchanged because what the MCPServer declares cannot be applied.
	Invalid Action = "Invalid"
)

// Step is the action on one child.
type Step struct {
	observe.Child
	Action Action
	// Reason is the reason of the action, for --preview.
	Reason string
	// Live is the child as it was read; nil if it is absent. A write applies only to its UID and resourceVersion.
	Live client.Object
	// Want is the apply configuration of Create and Apply.
	Want runtime.ApplyConfiguration
	// Patch is the JSON patch of Migrate, Repair, Correct and Release. It tests the resourceVersion.
	Patch []ownership.Operation
	// Confirm is true if the cached MCPServer and its status must be current before the step: the cache may be older than what was already
	// carried out.
	Confirm bool
	// ForgetDeclaration is true if a removed declaration must be removed from the status before this step. Without the annotation on the
	// StatefulSet, the status decides: if the user declares the same number again before this pass reports, the operator would treat the
	// declaration as carried out.
	ForgetDeclaration bool
	// Undoes are the changes of other writers that Apply and Correct revert, and that BackOff leaves in place.
	Undoes []Change
	// Writers are the other writers of the fight in which BackOff waits.
	Writers []string
	// Until is when BackOff ends.
	Until time.Time
	// Err is the error of an Invalid step.
	Err error
	// digest identifies Want: see Converged.
	digest uint64
	// content identifies Want without the scale: see observe.Seen. Another client may change the scale and remove a field in one request.
	content uint64
	// built is the cached result for the StatefulSet: see Converged.
	built built
	// left are the fields that other managers keep in the child: see left.
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

// IsFirst reports whether another write follows in the next pass, after it has read the result of this step.
func (s *Step) IsFirst() bool {
	switch s.Action {
	case Migrate, Repair, Correct, Release:
		return true
	default:
		return false
	}
}

// Plan is the ordered list of the steps of a pass. Objects to which the pods refer are written before the StatefulSet. Objects to which they
// no longer refer are deleted after it.
type Plan struct {
	Steps []Step
	// Scale is the decision about the scale. The step of the StatefulSet carries it out.
	Scale scale.Verdict
	// Update is a new pod template that is not applied; nil if there is none.
	Update *Update
	// LacksCommand is true if a change of the pod template waits, because the command of the server is unknown. Snapshot.Image says why.
	LacksCommand bool
}

// Applies reports whether a plan changes values of an existing child. Then the generation of the MCPServer must be current: a new leader with a stale
// cache would otherwise carry out an earlier generation, and then the current generation again.
func (p *Plan) Applies() bool {
	return slices.ContainsFunc(p.Steps, func(step Step) bool { return step.Action == Apply || step.Action == Correct })
}

// StatefulSet returns the step of the StatefulSet; nil if there is none.
func (p *Plan) StatefulSet() *Step {
	for i := range p.Steps {
		if p.Steps[i].Kind == observe.KindStatefulSet {
			return &p.Steps[i]
		}
	}
	return nil
}

// LiveObject returns the child of a step as it was read; nil if the step is nil or the child is absent.
func (s *Step) LiveObject() client.Object {
	if s == nil {
		return nil
	}
	return s.Live
}

// Settings are the inputs of a plan other than the snapshot.
type Settings struct {
	// Cluster are the properties of the cluster on which the pods depend. If its IPFamily is empty, the StatefulSet is created only
	// after a Service, from which the operator reads the IP family.
	Cluster applyconfigs.Cluster
	// UpdateTemplates is true to apply the pod templates of this operator at once, even if an operator of another revision made the current
	// ones. This restarts pods.
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
	if step, isRefused := m.refused(); isRefused {
		add(step)
		return plan
	}
	add(stepFor(m, applyconfigs.ServiceAccount(server), live.ServiceAccount, corev1ac.ExtractServiceAccount))
	add(stepFor(m, applyconfigs.HeadlessService(server, s.Fixed), live.HeadlessService, corev1ac.ExtractService))
	add(stepFor(m, applyconfigs.ClientService(server, s.Fixed, m.isRouted()), live.ClientService, corev1ac.ExtractService))
	add(stepFor(m, applyconfigs.NetworkPolicy(server, s.Fixed), live.NetworkPolicy, networkingv1ac.ExtractNetworkPolicy))
	add(stepFor(m, applyconfigs.PodDisruptionBudget(server, s.Fixed), live.PodDisruptionBudget, policyv1ac.ExtractPodDisruptionBudget))
	set := m.statefulSet()
	plan.Update, plan.LacksCommand = set.built.update, set.built.lacksCommand
	add(set)
	add(drop(observe.KindServiceAccount, live.ServiceAccount, applyconfigs.WantsServiceAccount(server) || s.AccountInUse || len(s.Stray) > 0))
	add(drop(observe.KindNetworkPolicy, live.NetworkPolicy, applyconfigs.WantsNetworkPolicy(server)))
	add(drop(observe.KindPodDisruptionBudget, live.PodDisruptionBudget, applyconfigs.WantsPodDisruptionBudget(server)))
	return plan
}

// maker has the inputs of a step.
type maker struct {
	*observe.Snapshot
	verdict  scale.Verdict
	settings Settings
	memory   *Memory
}

// isRouted reports whether the pods have a runner: the MCPServer wants one, and the pod template was not kept from before.
func (m *maker) isRouted() bool {
	set := m.Children.StatefulSet
	return applyconfigs.HasRunner(m.Server, m.settings.Cluster) && (set == nil || applyconfigs.IsRouted(set))
}

// statefulSet plans the step of the StatefulSet, which includes the scale.
func (m *maker) statefulSet() Step {
	live := m.Children.StatefulSet
	step := Step{Child: observe.Child{Kind: observe.KindStatefulSet, Name: applyconfigs.StatefulSetName(m.Server.Name)}}
	if live != nil {
		step.Live = live
	}
	switch {
	case m.IsForeign(step.Child):
		return refuse(step.Child)
	case isGoing(live):
		return waitForDeletion(step.Child, live)
	}
	cluster := m.familyOf(m.settings.Cluster)
	if live == nil && cluster.IPFamily == "" {
		step.Action, step.Reason = Wait, "the Service does not exist yet. Its IP family determines the address on which the server listens"
		return step
	}
	if account := m.foreignAccount(); account != "" && (live == nil || live.Spec.Template.Spec.ServiceAccountName != account) {
		step.Action, step.Reason = Wait, fmt.Sprintf("the MCPServer does not control ServiceAccount %q, which its pods would run as", account)
		return step
	}
	from := m.inputsDigest(cluster)
	if live != nil && m.verdict.Action != scale.Release && len(m.known(step.Child, live)) == 0 {
		if is, found := m.memory.Converged.findBuilt(m.Server, step.Child, live, from); found {
			step.Action, step.Reason, step.digest, step.built = Keep, asAskedFor, is.digest, is
			step.content = is.content
			return step
		}
	}
	is := built{from: from}
	want, err := applyconfigs.StatefulSet(m.Server, m.verdict.Apply, m.Fixed, cluster, m.Image.Found)
	switch {
	case errors.Is(err, applyconfigs.ErrCommandUnknown):
		if want, is, err = m.withoutCommand(live, cluster, from); err == nil && want == nil {
			step.built = is
			step.Action, step.Reason = Wait, m.whyNoCommand()
			return step
		}
	case err != nil:
		step.Action, step.Reason, step.Err = Invalid, "the pods that the MCPServer declares are invalid", &InvalidSpecError{err}
		return step
	default:
		is.update, err = m.keepTemplate(want, live)
	}
	if err != nil {
		return failed(step, err)
	}
	if len(m.Stray) > 0 {
		step.Action, step.Reason = Wait, "the pods of the deleted StatefulSet are not being deleted yet"
		step.Confirm, step.ForgetDeclaration = true, m.forgetsDeclaration()
		return step
	}
	step = stepFor(m, want, live, appsv1ac.ExtractStatefulSet)
	is.digest, is.content = step.digest, step.content
	step.built = is
	if (step.Action == Keep || step.Action == Apply || step.Action == BackOff) && m.verdict.Action == scale.Release {
		// The next pass plans the apply without the scale, after it has read that the operator no longer owns the scale.
		step = m.release(live, step.Child)
		step.built = is
	}
	if step.Writes() && !step.isOfOwnership() && (live == nil || m.verdict.Writes() || recordDiffers(live, m.verdict.Apply.Declared)) {
		step.Confirm, step.ForgetDeclaration = true, m.forgetsDeclaration()
	}
	return step
}

// inputsDigest returns a digest of the inputs of the StatefulSet other than the live StatefulSet: the MCPServer, the decision about the scale,
// the cluster and the image.
func (m *maker) inputsDigest(cluster applyconfigs.Cluster) uint64 {
	var hash maphash.Hash
	hash.SetSeed(digestSeed)
	maphash.WriteComparable(&hash, m.Server.Generation)
	for _, all := range []map[string]string{m.Server.Labels, m.Server.Annotations} {
		maphash.WriteComparable(&hash, len(all))
		for _, key := range slices.Sorted(maps.Keys(all)) {
			maphash.WriteComparable(&hash, key)
			maphash.WriteComparable(&hash, all[key])
		}
	}
	for _, number := range []*int32{m.verdict.Apply.Replicas, m.verdict.Apply.Declared} {
		maphash.WriteComparable(&hash, number != nil)
		maphash.WriteComparable(&hash, ptr.Deref(number, 0))
	}
	maphash.WriteComparable(&hash, cluster)
	maphash.WriteComparable(&hash, m.Image.Found != nil)
	maphash.WriteComparable(&hash, m.Image.Err != nil)
	if found := m.Image.Found; found != nil {
		for _, words := range [][]string{{found.Reference}, found.Entrypoint, found.Cmd} {
			maphash.WriteComparable(&hash, len(words))
			for _, word := range words {
				maphash.WriteComparable(&hash, word)
			}
		}
	}
	return hash.Sum64()
}

// InvalidSpecError is an error in the spec of an MCPServer that the schema of the CRD cannot detect.
type InvalidSpecError struct{ error }

func (e *InvalidSpecError) Unwrap() error { return e.error }

// isOfStatefulSet reports whether a step creates, applies or releases the StatefulSet.
func (s *Step) isOfStatefulSet() bool {
	return s.Kind == observe.KindStatefulSet && (s.Action == Create || s.Action == Apply || s.Action == Release)
}

// isOfOwnership reports whether a step only prepares an apply: it changes the ownership of fields, or makes a correction.
func (s *Step) isOfOwnership() bool {
	return s.Action == Migrate || s.Action == Repair || s.Action == Correct
}

// forgetsDeclaration reports whether the status has a declaration that was removed.
func (m *maker) forgetsDeclaration() bool {
	return m.Server.Spec.DeclaredReplicas() == nil && m.Server.Status.Scale != nil && m.Server.Status.Scale.DeclaredReplicas != nil
}

// foreignAccount returns the name of the ServiceAccount that the operator would create for the pods, if another object has this name; empty
// otherwise. Pods must not get the permissions of a ServiceAccount that the MCPServer does not name.
func (m *maker) foreignAccount() string {
	name := applyconfigs.ServiceAccountName(m.Server.Name)
	if !applyconfigs.WantsServiceAccount(m.Server) || !m.IsForeign(observe.Child{Kind: observe.KindServiceAccount, Name: name}) {
		return ""
	}
	return name
}

// familyOf returns the cluster with the IP family of the existing Services, because the family of a Service is immutable. A new Service gets
// the family that the MCPServer declares. If unset, it gets the family of the cluster.
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

// recordDiffers reports whether an apply would change the annotation with the declaration.
func recordDiffers(live *appsv1.StatefulSet, declared *int32) bool {
	record, recorded := live.Annotations[v1beta1.DeclaredReplicasAnnotation]
	if declared == nil {
		return recorded
	}
	return record != strconv.FormatInt(int64(*declared), 10)
}

// release plans to give up the ownership of the scale without changing its value. If spec.replicas is unset, the step also removes the
// annotation with the declaration.
func (m *maker) release(live *appsv1.StatefulSet, child observe.Child) Step {
	step := Step{Child: child, Action: Release, Reason: m.verdict.Reason, Live: live}
	paths := []fieldpath.Path{observe.ReplicasPath}
	if m.Server.Spec.DeclaredReplicas() == nil {
		paths = append(paths, observe.DeclaredReplicasPath)
	}
	patch, err := ownership.Release(live, observe.Self, paths...)
	if err != nil {
		return failed(step, err)
	}
	if _, found := live.Annotations[v1beta1.DeclaredReplicasAnnotation]; found && m.Server.Spec.DeclaredReplicas() == nil {
		patch = append(patch, ownership.Operation{Op: "remove", Path: "/metadata/annotations/" + strings.ReplaceAll(v1beta1.DeclaredReplicasAnnotation, "/", "~1")})
	}
	step.Patch = patch
	return step
}

// drop plans to delete a child that is no longer wanted.
func drop[L liveObject](kind string, live L, wanted bool) Step {
	var absent L
	if wanted || live == absent || isGoing(live) {
		return Step{}
	}
	return Step{
		Child: observe.Child{Kind: kind, Name: live.GetName()}, Action: Delete, Reason: "the MCPServer no longer requires it",
		Live: live, Confirm: true,
	}
}

// asAskedFor is the reason of a step that keeps a child.
const asAskedFor = "it matches the MCPServer"

// failed returns a step that cannot be planned.
func failed(step Step, err error) Step {
	return Step{Child: step.Child, Action: Invalid, Live: step.Live, Err: fmt.Errorf("planning %s: %w", step.Child, err)}
}
