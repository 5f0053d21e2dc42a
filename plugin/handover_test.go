package main

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mcpserver-operator/reconcile/ownership"
)

// TestAnObjectThatHasChangedIsNamed: the test of the resourceVersion fails in the API server with a message about a JSON patch, which does not help.
func TestAnObjectThatHasChangedIsNamed(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(set).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonInvalid, Code: 422, Message: "the server rejected our request"}}
		},
	}).Build()
	err := (&connection{WithWatch: c}).patchObject(t.Context(), set, []ownership.Operation{{Op: "test"}})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `on statefulset.apps "web": it has changed in the meantime: run the command again`) {
		t.Errorf("got %v", err)
	}
}
