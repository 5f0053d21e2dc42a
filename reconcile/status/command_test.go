package status

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/registry"
)

// TestAnUnknownCommand verifies the conditions of a server whose command is unknown: the reason, whether the user must act, and the way out.
func TestAnUnknownCommand(t *testing.T) {
	const patch = `kubectl -n team patch mcpservers.toolhive.stacklok.dev web --type=merge -p '{"spec":{"command":["COMMAND","ARGUMENT"]}}'`
	for name, row := range map[string]struct {
		image     observe.Image
		condition string
		reason    string
		says      []string
	}{
		"being looked up": {observe.Image{Reference: "server:1"}, v1beta1.ConditionReconciling, reasonProgressing, []string{`looks up the command of image "server:1"`}},
		"unavailable": {
			observe.Image{Reference: "server:1", Err: fmt.Errorf("%w: too many requests", registry.ErrUnavailable)}, v1beta1.ConditionReconciling, reasonCommand,
			[]string{"too many requests", patch, "retries"},
		},
		"not found": {observe.Image{Reference: "server:1", Err: registry.ErrNotFound}, v1beta1.ConditionStalled, reasonCommand, []string{"image not found", patch}},
		"private": {
			observe.Image{Reference: "server:1", Err: registry.ErrUnauthorized}, v1beta1.ConditionStalled, reasonCommand,
			[]string{"access to the image refused", "does not use spec.imagePullSecrets", patch},
		},
		"invalid":    {observe.Image{Reference: "server:1", Err: registry.ErrInvalid}, v1beta1.ConditionStalled, reasonCommand, []string{"image invalid", patch}},
		"turned off": {observe.Image{Reference: "server:1", Err: observe.ErrNotLookedUp}, v1beta1.ConditionStalled, reasonCommand, []string{"--image-lookup", patch, "Direct"}},
		"a long error": {
			observe.Image{Reference: "server:1", Err: errors.New(strings.Repeat("x", 1<<20))}, v1beta1.ConditionStalled, reasonCommand, []string{patch},
		},
	} {
		for _, set := range []*appsv1.StatefulSet{nil, {ObjectMeta: metav1.ObjectMeta{Name: "web"}}} {
			s := &observe.Snapshot{Server: &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}, Image: row.image}
			s.Children.StatefulSet = set
			s.Image.Recorded = &v1beta1.ImageStatus{Reference: "server:0"}
			next := Next(s, plan.Plan{LacksCommand: true}, nil)
			condition := apimeta.FindStatusCondition(next.Conditions, row.condition)
			if condition == nil || condition.Reason != row.reason {
				t.Fatalf("%s: %+v", name, next.Conditions)
			}
			says := row.says
			if set != nil {
				says = append([]string{"its pods keep running"}, says...)
			}
			for _, words := range says {
				if !strings.Contains(condition.Message, words) {
					t.Errorf("%s: %q is not in %q", name, words, condition.Message)
				}
			}
			if next.Image == nil || next.Image.Reference != "server:0" {
				t.Errorf("%s: the status forgets with what the pods were built: %+v", name, next.Image)
			}
		}
	}
}

// TestTheStatusOfTheImage verifies that the status has what the pods are built with, as long as it comes from the image.
func TestTheStatusOfTheImage(t *testing.T) {
	found, before := &v1beta1.ImageStatus{Reference: "server:1"}, &v1beta1.ImageStatus{Reference: "server:0"}
	for name, row := range map[string]struct {
		image   observe.Image
		suspend bool
		want    *v1beta1.ImageStatus
	}{
		"found":                     {observe.Image{Reference: "server:1", Found: found}, false, found},
		"being looked up":           {observe.Image{Reference: "server:1", Recorded: before}, false, before},
		"being looked up first":     {observe.Image{Reference: "server:1"}, false, nil},
		"suspended":                 {observe.Image{}, true, before},
		"the MCPServer has command": {observe.Image{}, false, nil},
	} {
		s := &observe.Snapshot{Server: &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{Suspend: row.suspend}}, Image: row.image}
		s.Server.Status.Image = before
		if got := Next(s, plan.Plan{}, nil).Image; (got == nil) != (row.want == nil) || (got != nil && got.Reference != row.want.Reference) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
