package cluster

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/tests/controlplane"
)

// Must fails a test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// MustEventually fails a test if a condition does not become true. See Eventually.
func MustEventually(t testing.TB, what string, is func() (state string, done bool)) {
	t.Helper()
	Must(t, Eventually(t.Context(), what, func(context.Context) (string, bool) { return is() }))
}

// NewNamespace creates a namespace and deletes it when the test ends.
func (c *Cluster) NewNamespace(t testing.TB, prefix string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	Must(t, c.Client.Create(t.Context(), namespace))
	t.Cleanup(func() { Must(t, c.Client.Delete(context.Background(), namespace)) })
	return namespace.Name
}

// NeedAuditLog skips a test on an existing cluster, because its audit log is not accessible. On a control plane that the suite
// started, as in make test and in CI, a missing audit log is a failure.
func (c *Cluster) NeedAuditLog(t testing.TB) {
	t.Helper()
	_, err := c.AuditMark()
	if errors.Is(err, ErrNoAuditLog) && !controlplane.Required() { // it is required in CI
		t.Skip(err)
	}
	Must(t, err)
}
