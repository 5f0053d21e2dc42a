package reconcile

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
)

// TestAChildThatChangesDuringAPreviewIsReadAgain: somebody writes a Service between reading it and the dry run.
func TestAChildThatChangesDuringAPreviewIsReadAgain(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}}
	server.Spec.Image, server.Spec.Transport = "registry.example/server:1", v1beta1.TransportStreamableHTTP
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: server.Namespace, Name: applyconfigs.ClientServiceName(server.Name),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(server, v1beta1.GroupVersion.WithKind("MCPServer"))},
	}, Spec: corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}}
	updates := 0
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(server, service).WithInterceptorFuncs(interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			if updates++; updates == 1 {
				return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, object.GetName(), nil)
			}
			return c.Update(ctx, object, options...)
		},
	}).Build()
	reconciler := &Reconciler{Client: c, APIReader: c, Now: time.Now}
	preview, err := reconciler.Preview(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(preview.Steps, func(s PreviewedStep) bool {
		return s.Kind == observe.KindService && s.Action == plan.Apply && s.Before != nil
	}) {
		t.Errorf("the preview has no change of the Service: %+v", preview.Steps)
	}
	if updates < 2 {
		t.Errorf("%d dry runs", updates)
	}
}
