package act

import (
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IsStale reports whether err says that an object was not what the cache showed: an everyday outcome of optimistic concurrency, not a
// failure. An object that was deleted and created anew meanwhile fails the check of its UID, which the API server reports as an invalid
// object.
func IsStale(err error) bool {
	if apierrors.IsConflict(err) {
		return !IsDenied(err)
	}
	return HasCause(err, func(cause metav1.StatusCause) bool { return cause.Field == "metadata.uid" })
}

// IsDenied reports whether err is the answer of an admission webhook, which may have any status code: to try again on fresh state helps
// only against the API server's own conflicts.
func IsDenied(err error) bool {
	return strings.Contains(err.Error(), "admission webhook")
}

// isFailedTest reports whether err says that a test of a JSON patch failed. It is no 409. Unlike the answer that an object is invalid, it
// has no cause.
func isFailedTest(err error) bool {
	return apierrors.IsInvalid(err) && !IsDenied(err) && !HasCause(err, func(metav1.StatusCause) bool { return true })
}

// HasCause reports whether err is an answer of the API server that an object is invalid, for such a cause.
func HasCause(err error, is func(metav1.StatusCause) bool) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, is)
}

// IsTerminating reports whether err says that the namespace is being deleted.
func IsTerminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
