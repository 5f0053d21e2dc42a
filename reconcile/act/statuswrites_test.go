package act

import (
	"context"
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	crdac "mcpserver-operator/applyconfigs/crd/v1beta1"
	"mcpserver-operator/crd/v1beta1"
)

// TestAPassOnAStatusFromBeforeAWriteIsRepeated verifies that a pass counts as stale until the cache contains the last status write.
func TestAPassOnAStatusFromBeforeAWriteIsRepeated(t *testing.T) {
	server := func(uid types.UID, version string) *v1beta1.MCPServer {
		return &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: uid, ResourceVersion: version}}
	}
	var writes statusWrites
	if writes.areAhead(server("a", "99")) {
		t.Error("stale without a write")
	}
	writes.remember(server("a", "100"))
	if !writes.areAhead(server("a", "99")) {
		t.Error("an older version does not count as stale")
	}
	if writes.areAhead(server("a", "100")) || writes.areAhead(server("a", "99")) {
		t.Error("stale although the cache contains the write")
	}
	writes.remember(server("a", "100"))
	if writes.areAhead(server("b", "99")) {
		t.Error("stale for another MCPServer of the same name")
	}
	writes.remember(server("a", "100"))
	writes.forget(types.NamespacedName{Namespace: "team", Name: "web"})
	if writes.areAhead(server("a", "99")) {
		t.Error("a deleted MCPServer is still in memory")
	}
}

// TestAPartOfAStatusIsWritten verifies that the record of the scale can be written after another client has removed the status. The schema
// rejects an empty phase.
func TestAPartOfAStatusIsWritten(t *testing.T) {
	got := statusConfiguration(&v1beta1.MCPServerStatus{Scale: &v1beta1.ScaleStatus{Replicas: 3}})
	if got.Phase != nil || got.Scale == nil || *got.Scale.Replicas != 3 {
		t.Errorf("got phase %v, scale %+v", got.Phase, got.Scale)
	}
}

// TestAnUnansweredWriteIsReported verifies that the record of the scale is forgotten if the API server may have written a newer one, and only
// then: a record that somebody removes meanwhile must be restored.
func TestAnUnansweredWriteIsReported(t *testing.T) {
	for name, row := range map[string]struct {
		err        error
		unanswered bool
	}{
		"lost":     {errors.New("connection reset by peer"), true},
		"500":      {apierrors.NewInternalError(errors.New("etcd")), true},
		"conflict": {apierrors.NewConflict(schema.GroupResource{}, "web", errors.New("modified")), false},
		"denied":   {apierrors.NewForbidden(schema.GroupResource{}, "web", errors.New("no")), false},
	} {
		unanswered := false
		w := &StatusWriter{
			Client: interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				SubResourceApply: func(context.Context, client.Client, string, runtime.ApplyConfiguration, ...client.SubResourceApplyOption) error {
					return row.err
				},
			}),
			Written:    func(*v1beta1.MCPServer, v1beta1.MCPServerStatus) { t.Error("reported as written") },
			Unanswered: func(*v1beta1.MCPServer) { unanswered = true },
		}
		if err := w.Put(t.Context(), &v1beta1.MCPServer{}, v1beta1.MCPServerStatus{}); err == nil || unanswered != row.unanswered {
			t.Errorf("%s: got %v, unanswered: %t", name, err, unanswered)
		}
	}
}

// TestTheScaleIsWrittenAlone verifies that the record of the scale is written if the API server rejects the rest of the status.
func TestTheScaleIsWrittenAlone(t *testing.T) {
	var written []v1beta1.MCPServerStatus
	w := &StatusWriter{
		Client: interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
			SubResourceApply: func(_ context.Context, _ client.Client, _ string, applied runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
				status := applied.(*crdac.MCPServerApplyConfiguration).Status
				if len(status.Conditions) > 0 {
					return apierrors.NewInvalid(schema.GroupKind{}, "web", field.ErrorList{field.TooLong(field.NewPath("status", "conditions"), "", 1)})
				}
				return nil
			},
		}),
		Written: func(_ *v1beta1.MCPServer, now v1beta1.MCPServerStatus) { written = append(written, now) },
	}
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1"}}
	err := w.Put(t.Context(), server, v1beta1.MCPServerStatus{
		Scale:      &v1beta1.ScaleStatus{Replicas: 3, Owner: "kubectl"},
		Conditions: []metav1.Condition{{Type: v1beta1.ConditionReady, Message: "too long"}},
	})
	if err == nil || len(written) != 1 || written[0].Scale == nil || written[0].Scale.Replicas != 3 || server.Status.Scale.Replicas != 3 {
		t.Errorf("got %v, written %+v", err, written)
	}
}
