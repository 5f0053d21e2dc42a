package reconcile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAnMCPServerOfATerminatingNamespaceIsLookedAtAgain verifies that a refusal of the namespace is no error, and that the pass is repeated: the MCPServer
// may outlive its namespace.
func TestAnMCPServerOfATerminatingNamespaceIsLookedAtAgain(t *testing.T) {
	refused := apierrors.NewForbidden(corev1.Resource("services"), "mcp-web-proxy", errors.New("the namespace is being terminated"))
	refused.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	result, err := finish(0, errors.Join(fmt.Errorf("applying Service: %w", refused)))
	if err != nil || result.RequeueAfter != terminatingAfter {
		t.Errorf("got %+v and the error %v", result, err)
	}
}

// TestAnErrorInTheLogIsBounded verifies that a long answer of a webhook does not fill the log, and that the error stays what it is.
func TestAnErrorInTheLogIsBounded(t *testing.T) {
	cause := errors.New(strings.Repeat("no — ", 20_000))
	_, err := finish(0, cause)
	if err == nil || len(err.Error()) > mostLogged || !errors.Is(err, cause) {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}
