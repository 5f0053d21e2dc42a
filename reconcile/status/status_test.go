package status

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/diagnosis"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestHealth verifies the phase and the condition Ready.
func TestHealth(t *testing.T) {
	set := func(wanted, existing, updated, ready int32) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Generation: 2},
			Spec:       appsv1.StatefulSetSpec{Replicas: ptr.To(wanted)},
			Status: appsv1.StatefulSetStatus{
				ObservedGeneration: 2, Replicas: existing, UpdatedReplicas: updated, ReadyReplicas: ready,
			},
		}
	}
	unseen := set(3, 3, 3, 3)
	unseen.Generation = 3
	deleted := set(3, 3, 3, 3)
	deleted.DeletionTimestamp = ptr.To(metav1.NewTime(start))
	service := observe.Child{Kind: observe.KindService, Name: "mcp-web-proxy"}
	foreign := []observe.Foreign{{Child: service, Managers: []string{"kubectl"}}}
	leftover := []observe.Foreign{{Child: service, Owner: "MCPServer/web", Leftover: true}}
	denied := apierrors.NewBadRequest("admission webhook \"policy.example.com\" denied the request: never")
	deniedWith500 := apierrors.NewInternalError(errors.New(`admission webhook "policy.example.com" denied the request: never`))
	unanswered := apierrors.NewInternalError(errors.New(`failed calling webhook "policy.example.com": context deadline exceeded`))
	tooLarge := apierrors.NewRequestEntityTooLargeError("limit is 3145728")
	busy := apierrors.NewTooManyRequests("try again", 1)
	unknownYet := apierrors.NewForbidden(schema.GroupResource{Resource: "statefulsets"}, "web", errors.New("cannot set "+
		"blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion toolhive.stacklok.dev/v1beta1 Kind MCPServer"))
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "statefulsets"}, "web", errors.New("exceeded quota"))

	for _, row := range []struct {
		name    string
		set     *appsv1.StatefulSet
		foreign []observe.Foreign
		err     error
		phase   v1beta1.Phase
		reason  string
	}{
		{"no StatefulSet yet", nil, nil, nil, v1beta1.PhasePending, reasonProgressing},
		{"a change that the StatefulSet controller has not observed", unseen, nil, nil, v1beta1.PhasePending, reasonProgressing},
		{"being deleted", deleted, nil, nil, v1beta1.PhasePending, reasonProgressing},
		{"pods are missing", set(3, 2, 2, 2), nil, nil, v1beta1.PhasePending, reasonProgressing},
		{"surplus pods", set(3, 4, 3, 3), nil, nil, v1beta1.PhasePending, reasonProgressing},
		{"pods of an old template", set(3, 3, 1, 3), nil, nil, v1beta1.PhasePending, reasonProgressing},
		{"pods that are not ready", set(3, 3, 3, 2), nil, nil, v1beta1.PhasePending, reasonPodsNotReady},
		{"all ready", set(3, 3, 3, 3), nil, nil, v1beta1.PhaseReady, reasonPodsReady},
		{"scaled to 0", set(0, 0, 0, 0), nil, nil, v1beta1.PhaseStopped, reasonScaledToZero},
		{"a child has another owner", set(3, 3, 3, 3), foreign, nil, v1beta1.PhaseFailed, reasonNotControlled},
		{"a child belongs to an earlier MCPServer of this name", nil, leftover, nil, v1beta1.PhasePending, reasonProgressing},
		{"a webhook denies a child", set(3, 3, 3, 3), nil, denied, v1beta1.PhaseFailed, reasonRejected},
		{"a webhook denies a child with any code", set(3, 3, 3, 3), nil, deniedWith500, v1beta1.PhaseFailed, reasonRejected},
		{"a webhook does not answer", set(3, 3, 3, 3), nil, unanswered, v1beta1.PhasePending, reasonPassFailed},
		{"a child is too large", set(3, 3, 3, 3), nil, tooLarge, v1beta1.PhaseFailed, reasonRejected},
		{"one child is rejected, and the API server is busy with another", set(3, 3, 3, 3), nil, errors.Join(busy, tooLarge), v1beta1.PhaseFailed, reasonRejected},
		{"the API server is busy", set(3, 3, 3, 3), nil, busy, v1beta1.PhasePending, reasonPassFailed},
		{"a child is rejected", set(3, 3, 3, 3), nil, forbidden, v1beta1.PhaseFailed, reasonRejected},
		{"the CRD is so new that the API server does not know it yet", nil, nil, unknownYet, v1beta1.PhasePending, reasonPassFailed},
		{"the API server is unavailable", set(3, 3, 3, 3), nil, errors.New("connection refused"), v1beta1.PhasePending, reasonPassFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			status := Next(&observe.Snapshot{
				Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start), Foreign: row.foreign, Children: observe.Children{StatefulSet: row.set},
			}, plan.Plan{}, failed(row.err))
			ready := apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
			if ready == nil || ready.Reason != row.reason || status.Phase != row.phase {
				t.Fatalf("phase %s, Ready %+v", status.Phase, ready)
			}
			// If Ready is not True, exactly one of Reconciling and Stalled is.
			var why []string
			for _, condition := range status.Conditions {
				if condition.Type != v1beta1.ConditionReady && condition.Status == metav1.ConditionTrue {
					why = append(why, condition.Type)
				}
			}
			if isReady := ready.Status == metav1.ConditionTrue; isReady == (len(why) == 1) || len(why) > 1 {
				t.Errorf("Ready is %s, and %v", ready.Status, why)
			}
		})
	}
}

// TestAFightEndsWithThePolicy verifies that a change from Force to Yield and back takes the scale back at once.
func TestAFightEndsWithThePolicy(t *testing.T) {
	for policy, counts := range map[v1beta1.ReplicasConflictPolicy]bool{v1beta1.ReplicasConflictForce: true, v1beta1.ReplicasConflictYield: false} {
		now := metav1.NewTime(start)
		server := &v1beta1.MCPServer{
			Spec:   v1beta1.MCPServerSpec{Replicas: ptr.To[int32](3), ReplicasConflictPolicy: policy},
			Status: v1beta1.MCPServerStatus{Scale: &v1beta1.ScaleStatus{TakeBacks: scale.CountTakeBack(nil, "kubectl", now)}},
		}
		set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](5)}}
		got := scaleSeen(&observe.Snapshot{Server: server, Now: now, Children: observe.Children{StatefulSet: set}})
		if (got.TakeBacks != nil) != counts {
			t.Errorf("%s: the take-backs are %+v", policy, got.TakeBacks)
		}
	}
}

// TestTransfersKeepTheLastFive verifies that the newest transfer is first, and that a new name of the same writer is no transfer.
func TestTransfersKeepTheLastFive(t *testing.T) {
	scale := &v1beta1.ScaleStatus{Owner: "0", Manager: "0"}
	for _, owner := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		scale = remember(scale, &v1beta1.ScaleStatus{Owner: owner, Manager: owner}, metav1.NewTime(start))
	}
	scale = remember(scale, &v1beta1.ScaleStatus{Owner: "renamed", Manager: "7"}, metav1.NewTime(start))
	var to []string
	for _, transfer := range scale.Transfers {
		to = append(to, transfer.To)
	}
	if !slices.Equal(to, []string{"7", "6", "5", "4", "3"}) {
		t.Errorf("the transfers are to %v", to)
	}
}

// TestTimesFromTheFutureAreReplaced verifies that an edited status, or the status of an operator with a wrong clock, does not show times in
// the future for ever.
func TestTimesFromTheFutureAreReplaced(t *testing.T) {
	now, future := metav1.NewTime(start), metav1.NewTime(start.Add(24*time.Hour))
	last := &v1beta1.ScaleStatus{Owner: "kubectl", Since: future, Transfers: []v1beta1.ScaleTransfer{{Time: future, From: "a", To: "kubectl"}}}
	got := remember(last, &v1beta1.ScaleStatus{Owner: "kubectl"}, now)
	if got.Since != now || got.Transfers[0].Time != now {
		t.Errorf("got %+v", got)
	}
	if last.Transfers[0].Time != future {
		t.Error("the last status was changed, which belongs to the cache")
	}
	status := v1beta1.MCPServerStatus{Conditions: []metav1.Condition{{
		Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: future,
	}}}
	setConditions(&status, ready("PodsReady", ""), now)
	if got := status.Conditions[0].LastTransitionTime; got != now {
		t.Errorf("the condition has changed at %s", got)
	}
}

// TestConditionsOfOthersAreLeftAlone verifies that the operator keeps conditions of other writers.
func TestConditionsOfOthersAreLeftAlone(t *testing.T) {
	server := &v1beta1.MCPServer{Status: v1beta1.MCPServerStatus{Conditions: []metav1.Condition{
		{Type: "Scanned", Status: metav1.ConditionTrue, Reason: "Clean"},
		{Type: v1beta1.ConditionStalled, Status: metav1.ConditionTrue, Reason: reasonNotControlled},
	}}}
	status := Next(&observe.Snapshot{Server: server, Now: metav1.NewTime(start)}, plan.Plan{}, nil)
	if apimeta.FindStatusCondition(status.Conditions, "Scanned") == nil {
		t.Error("the condition of another writer is missing")
	}
	if apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionStalled) != nil {
		t.Error("a condition of the operator that no longer holds still exists")
	}
}

// TestAReportKeepsTheScaleOfAWriteThatItHasNotSeen tests two cases in which the StatefulSet in the snapshot is older than a write: the pass has
// written the scale and recorded it in the status, or the cache was stale.
func TestAReportKeepsTheScaleOfAWriteThatItHasNotSeen(t *testing.T) {
	written := v1beta1.ScaleStatus{Replicas: 2, Owner: v1beta1.ScaleOwnerMCPServer, DeclaredReplicas: ptr.To[int32](2)}
	set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](7)}}
	step := plan.Step{Child: observe.Child{Kind: observe.KindStatefulSet}, Action: plan.Apply, Live: set}
	for name, outcome := range map[string]plan.Outcome{"written": plan.Written, "the cache was behind": plan.Stale} {
		s := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Children: observe.Children{StatefulSet: set}}
		s.Server.Spec.Replicas, s.Server.Status.Scale = ptr.To[int32](2), written.DeepCopy()
		results := append(failed(errors.New("another child is rejected")), plan.Result{Step: step, Outcome: outcome})
		if got := Next(s, plan.Plan{Scale: scale.Verdict{Action: scale.Declare}}, results).Scale; !reflect.DeepEqual(got, &written) {
			t.Errorf("%s: the status has %+v", name, got)
		}
	}
}

// failed returns the results of a plan with a failed step; none if err is nil.
func failed(err error) plan.Results {
	if err == nil {
		return nil
	}
	return plan.Results{{Step: plan.Step{Child: observe.Child{Kind: observe.KindService}, Action: plan.Apply}, Outcome: plan.Failed, Err: err}}
}

// TestServing verifies that status.ready counts the pods that receive traffic, and never more than the desired number.
func TestServing(t *testing.T) {
	for name, c := range map[string]struct {
		wanted, ready, terminating, readyStill int32
		want                                   string
	}{
		"all serve": {3, 3, 0, 0, "3/3"},
		"two of five stop, and are ready meanwhile":  {3, 5, 2, 2, "3/3"},
		"one of three stops, and is ready meanwhile": {3, 3, 1, 1, "2/3"},
		"one of three stops, and is not ready":       {3, 2, 1, 0, "2/3"},
		"scaled to 0":                                {0, 5, 5, 5, "0/0"},
		"more than the scale, which nobody deletes":  {2, 4, 0, 0, "2/2"},
		"the StatefulSet is ahead of the pods":       {3, 0, 1, 1, "0/3"},
	} {
		p := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start)}
		p.Children.StatefulSet = &appsv1.StatefulSet{
			Spec: appsv1.StatefulSetSpec{Replicas: &c.wanted}, Status: appsv1.StatefulSetStatus{ReadyReplicas: c.ready},
		}
		p.Pods = observe.Pods{Terminating: c.terminating, ReadyStill: c.readyStill}
		if status := Next(p, plan.Plan{}, nil); status.Ready != c.want || status.ReadyReplicas != c.ready {
			t.Errorf("%s: status.ready is %s, readyReplicas %d", name, status.Ready, status.ReadyReplicas)
		}
	}
}

func withUpdated(set *appsv1.StatefulSet, updated int32) *appsv1.StatefulSet {
	set.Status.UpdatedReplicas = updated
	return set
}

// TestWhatWasFoundIsTold verifies how findings are reported. The first finding determines the reason, a finding about pods that cannot be created
// has precedence, and a message names at most three pods.
func TestWhatWasFoundIsTold(t *testing.T) {
	crash := func(pod string) observe.PodFinding {
		return observe.PodFinding{Pod: pod, Finding: diagnosis.Finding{Reason: diagnosis.CrashLoopBackOff, Message: "it ends"}}
	}
	set := func(existing, ready int32) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2)}, Status: appsv1.StatefulSetStatus{
			Replicas: existing, UpdatedReplicas: existing, ReadyReplicas: ready}}
	}
	refused := &diagnosis.Finding{Reason: diagnosis.PodNotCreated, Message: "it is refused"}
	for name, c := range map[string]struct {
		set             *appsv1.StatefulSet
		pods            observe.Pods
		status          metav1.ConditionStatus
		reason, message string
	}{
		"nothing": {set(2, 1), observe.Pods{}, metav1.ConditionFalse, reasonPodsNotReady, "1 of 2 pods are ready"},
		"a pod":   {set(2, 1), observe.Pods{Unwell: []observe.PodFinding{crash("web-1")}}, metav1.ConditionFalse, "CrashLoopBackOff", "1 of 2 pods are ready; pod web-1: it ends"},
		"four pods": {set(2, 1), observe.Pods{Unwell: []observe.PodFinding{crash("web-1"), crash("web-2"), crash("web-3"), crash("web-4")}}, metav1.ConditionFalse,
			"CrashLoopBackOff", "1 of 2 pods are ready; pod web-1: it ends; pod web-2: it ends; pod web-3: it ends; and 1 more"},
		"a pod that is refused, and one that crashes": {set(1, 0), observe.Pods{Blocked: refused, Unwell: []observe.PodFinding{crash("web-1")}}, metav1.ConditionFalse,
			"PodNotCreated", "1 pods exist, 2 are desired; it is refused; pod web-1: it ends"},
		"as many pods, but others": {set(2, 2), observe.Pods{Missing: []string{"web-0"}, Surplus: []string{"web-2"}}, metav1.ConditionFalse, reasonProgressing,
			"pod web-0 is missing, and pod web-2 is surplus"},
		"a pod that stops": {set(2, 2), observe.Pods{Terminating: 1, ReadyStill: 1}, metav1.ConditionFalse, reasonPodsNotReady,
			"1 of 2 pods are ready; 1 pod is terminating, with a grace period of 30 s"},
		"a pod that stops, and no longer counts as up to date": {withUpdated(set(2, 2), 1), observe.Pods{Terminating: 1, ReadyStill: 1}, metav1.ConditionFalse,
			reasonPodsNotReady, "1 of 2 pods are ready; 1 pod is terminating, with a grace period of 30 s"},
		"pods of an old template, of which one stops": {withUpdated(set(2, 2), 0), observe.Pods{Terminating: 1, ReadyStill: 1}, metav1.ConditionFalse,
			reasonProgressing, "0 of 2 pods are up to date; 1 pod is terminating, with a grace period of 30 s"},
		"a pod of an old template, and one that has gone": {withUpdated(set(2, 2), 1), observe.Pods{Terminating: 1}, metav1.ConditionFalse,
			reasonProgressing, "1 of 2 pods are up to date; 1 pod is terminating, with a grace period of 30 s"},
		"pods that stop": {set(4, 4), observe.Pods{Terminating: 2, ReadyStill: 2}, metav1.ConditionFalse, reasonProgressing,
			"4 pods exist, 2 are desired; 2 pods are terminating, each with a grace period of 30 s"},
		"a pod that has recovered": {set(2, 2), observe.Pods{Recovered: []observe.PodFinding{crash("web-1")}}, metav1.ConditionTrue, reasonPodsReady,
			"2 of 2 pods are ready; pod web-1: it ends"},
	} {
		p := &observe.Snapshot{
			Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start), Children: observe.Children{StatefulSet: c.set}, Pods: c.pods,
		}
		got := apimeta.FindStatusCondition(Next(p, plan.Plan{}, nil).Conditions, v1beta1.ConditionReady)
		if got.Status != c.status || got.Reason != c.reason || got.Message != c.message {
			t.Errorf("%s: got %s, %s: %s", name, got.Status, got.Reason, got.Message)
		}
	}
}

// TestAMessageIsBounded verifies that long messages are truncated. The schema of the CRD rejects a message over 32 KiB, and quoted texts have no
// limit.
func TestAMessageIsBounded(t *testing.T) {
	talkative := apierrors.NewBadRequest("admission webhook denied it: " + strings.Repeat("no — ", 20_000))
	s := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start)}
	for _, condition := range Next(s, plan.Plan{}, failed(talkative)).Conditions {
		if len(condition.Message) > mostMessage || !strings.HasSuffix(condition.Message, "…") || !utf8.ValidString(condition.Message) {
			t.Errorf("%s has a message of %d bytes", condition.Type, len(condition.Message))
		}
	}
}

// TestALongErrorDoesNotCutTheAdvice verifies that the message still says what is not applied until the error is corrected.
func TestALongErrorDoesNotCutTheAdvice(t *testing.T) {
	talkative := apierrors.NewBadRequest("admission webhook denied it: " + strings.Repeat("no — ", 20_000))
	results := failed(talkative)
	results[0].Step.Name, results[0].Step.Live = "mcp-web-proxy", &corev1.Service{}
	s := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start)}
	stalled := apimeta.FindStatusCondition(Next(s, plan.Plan{}, results).Conditions, v1beta1.ConditionStalled)
	if want := `Until this is corrected, the operator cannot apply any other change to Service "mcp-web-proxy"`; !strings.HasSuffix(stalled.Message, want) {
		t.Errorf("the message ends with %q", stalled.Message[len(stalled.Message)-200:])
	}
}

// TestAFieldFightNamesAllWriters verifies that a message about a fight between several writers does not name only the last writer.
func TestAFieldFightNamesAllWriters(t *testing.T) {
	step := plan.Step{
		Child: observe.Child{Kind: observe.KindStatefulSet, Name: "web"}, Action: plan.BackOff,
		Undoes: []plan.Change{{Manager: "another", Fields: []string{".spec.image"}}},
	}
	unknown := step
	unknown.Undoes, unknown.Writers = []plan.Change{{Manager: plan.Somebody, Fields: []string{".spec.image"}}}, []string{plan.Somebody}
	if message := fieldConflict(plan.Results{{Step: unknown}}, nil)[0].Message; !strings.Contains(message, "webhook") || strings.Contains(message, "field manager") {
		t.Errorf("an unknown writer: %s", message)
	}
	for want, writers := range map[string][]string{
		`"one" and "another" change .spec.image of StatefulSet "web" each time`: {"one", "another"},
		`"another" changes .spec.image of StatefulSet "web" each time`:          {"another"},
	} {
		step.Writers = writers
		conditions := fieldConflict(plan.Results{{Step: step}}, nil)
		if len(conditions) != 1 || !strings.HasPrefix(conditions[0].Message, want) {
			t.Errorf("%q: got %+v", writers, conditions)
		}
	}
}

// TestWhatWasNotSeenStaysAsLastSeen verifies that a failed read is reported, and that nothing else changes.
func TestWhatWasNotSeenStaysAsLastSeen(t *testing.T) {
	last := v1beta1.MCPServerStatus{
		ObservedGeneration: 3, Phase: v1beta1.PhaseReady, Ready: "3/3", Replicas: 3, ReadyReplicas: 3, URL: "http://x",
		Scale:      &v1beta1.ScaleStatus{Replicas: 3, Owner: "HorizontalPodAutoscaler/web", Manager: "kube-controller-manager"},
		Conditions: ready(reasonPodsReady, "3 of 3 pods are ready"),
	}
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Generation: 4}, Status: last}
	got := NotSeen(server, apierrors.NewInternalError(errors.New("etcd is away")), metav1.NewTime(start))
	told := apimeta.FindStatusCondition(got.Conditions, v1beta1.ConditionReconciling)
	if told == nil || told.Reason != reasonPassFailed || !strings.Contains(told.Message, "etcd is away") {
		t.Errorf("the failed read is not reported: %+v", told)
	}
	if apimeta.FindStatusCondition(got.Conditions, v1beta1.ConditionReady).Status != metav1.ConditionTrue {
		t.Error("Ready has changed")
	}
	got.Conditions = last.Conditions
	if !reflect.DeepEqual(got, last) {
		t.Errorf("got %+v", got)
	}
	if first := NotSeen(&v1beta1.MCPServer{}, errors.New("etcd is away"), metav1.NewTime(start)); first.Phase != v1beta1.PhasePending ||
		apimeta.FindStatusCondition(first.Conditions, v1beta1.ConditionReady) == nil {
		t.Errorf("the first report says %+v", first)
	}
}

// TestAnOwnerReferenceThatIsLostIsGivenBack verifies that the command in the message deletes nothing and keeps the other owners.
func TestAnOwnerReferenceThatIsLostIsGivenBack(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}}
	set := observe.Child{Kind: observe.KindStatefulSet, Name: "web"}
	s := &observe.Snapshot{Server: server, Now: metav1.NewTime(start), Foreign: []observe.Foreign{{
		Child: set, Made: true, Managers: []string{"mcpserver-operator"}, References: []metav1.OwnerReference{{Kind: "Other", Name: "o", UID: "2"}},
	}}}
	message := apimeta.FindStatusCondition(Next(s, plan.Plan{}, nil).Conditions, v1beta1.ConditionStalled).Message
	for _, wanted := range []string{"kubectl -n team patch statefulset web", `"name":"o"`, `"kind":"MCPServer"`, `"uid":"1"`, `"controller":true`} {
		if !strings.Contains(message, wanted) {
			t.Errorf("no %q in %q", wanted, message)
		}
	}
	if strings.Contains(message, "elete") {
		t.Errorf("the message advises to delete: %q", message)
	}
}

// TestAPodThatHoldsUpARolloutInOrderIsNamed verifies that the message has the command that continues the rollout.
func TestAPodThatHoldsUpARolloutInOrderIsNamed(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "team"}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2)}}
	set.Status = appsv1.StatefulSetStatus{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1, CurrentRevision: "a", UpdateRevision: "b"}
	crash := diagnosis.Finding{Reason: diagnosis.CrashLoopBackOff, Message: "it ends"}
	pods := observe.Pods{Unwell: []observe.PodFinding{{Pod: "web-0", Finding: crash}, {Pod: "web-10", Finding: crash}, {Pod: "web-2", Finding: crash}}}
	for policy, tells := range map[appsv1.PodManagementPolicyType]bool{appsv1.OrderedReadyPodManagement: true, appsv1.ParallelPodManagement: false} {
		set.Spec.PodManagementPolicy = policy
		s := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: metav1.NewTime(start), Children: observe.Children{StatefulSet: set}, Pods: pods}
		message := apimeta.FindStatusCondition(Next(s, plan.Plan{}, nil).Conditions, v1beta1.ConditionReady).Message
		if strings.Contains(message, "kubectl -n team delete pod web-10") != tells {
			t.Errorf("%s: %s", policy, message)
		}
	}
}

// TestANameInAnOwnerReferenceEndsNoArgument: the API server accepts any name there, and people paste the command.
func TestANameInAnOwnerReferenceEndsNoArgument(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "u"}}
	object := observe.Foreign{
		Child:      observe.Child{Kind: observe.KindStatefulSet, Name: "web"},
		References: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x'; reboot; '", UID: "v"}},
	}
	command := adoptCommand(server, object)
	if strings.Count(command, "'") != 2 {
		t.Errorf("the argument ends early: %s", command)
	}
	_, patch, _ := strings.Cut(command, "-p '")
	var read struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(strings.TrimSuffix(patch, "'")), &read); err != nil || read.Metadata.OwnerReferences[0].Name != "x'; reboot; '" {
		t.Errorf("the patch has lost the name: %+v, %v", read, err)
	}
}
