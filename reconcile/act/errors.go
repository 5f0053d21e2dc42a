package act

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IsStale reports whether err means that an object in the cache was stale. This is normal with optimistic concurrency, and not a failure. If
// an object was deleted and recreated, the check of its UID fails, which the API server reports as an invalid object.
func IsStale(err error) bool {
	if apierrors.IsConflict(err) {
		return !IsDenied(err)
	}
	return HasCause(err, func(cause metav1.StatusCause) bool { return cause.Field == "metadata.uid" })
}

// IsDenied reports whether err is the response of an admission webhook, which may have any status code. A retry with fresh state resolves only
// conflicts from the API server itself.
func IsDenied(err error) bool {
	return strings.Contains(err.Error(), "admission webhook")
}

// isUnanswered reports whether err leaves open whether the API server has carried out a request.
func isUnanswered(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError
}

// IsFailedTest reports whether err means that a test of a JSON patch failed. The status code is not 409. Unlike the error for an invalid
// object, it has no causes.
func IsFailedTest(err error) bool {
	return apierrors.IsInvalid(err) && !IsDenied(err) && !HasCause(err, func(metav1.StatusCause) bool { return true })
}

// HasCause reports whether err is an error of the API server for an invalid object with a cause for which is returns true.
func HasCause(err error, is func(metav1.StatusCause) bool) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, is)
}

// IsTerminating reports whether err means that the namespace is being deleted.
func IsTerminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
