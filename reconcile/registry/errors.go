package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// The kinds of the errors of this package. Every error is of one kind: compare with errors.Is.
var (
	// ErrNotFound says that the registry has no such image.
	ErrNotFound = errors.New("image not found")
	// ErrUnauthorized says that the registry refuses to show the image. Many registries do so also if the image does not exist.
	ErrUnauthorized = errors.New("access to the image refused")
	// ErrUnavailable says that the registry could not be asked. The same look-up can succeed later.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrInvalid says that what the registry has, or the reference, is of no use. The same look-up fails until somebody changes it.
	ErrInvalid = errors.New("image invalid")
)

// maxForeign is the maximum length of a text in an error that the operator did not write, in characters, without its quotes.
const maxForeign = 256

// failure is the error of a look-up. It keeps no response or request, because errors are remembered.
type failure struct {
	kind error
	text string
	// cause is the error of the context, or nil.
	cause error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

// fail returns an error of a kind. Foreign text in args must be quoted.
func fail(kind error, format string, args ...any) *failure {
	return &failure{kind: kind, text: fmt.Sprintf(format, args...)}
}

// quote returns a text that the operator did not write as %q does, and shortens it to maxForeign characters. The result has no control characters.
func quote(text string) string {
	const cut = "…"
	var quoted strings.Builder
	characters := 0
	for _, r := range text {
		next := strconv.Quote(string(r))
		next = next[1 : len(next)-1]
		if characters += utf8.RuneCountInString(next); characters > maxForeign-1 {
			quoted.WriteString(cut)
			break
		}
		quoted.WriteString(next)
	}
	return `"` + quoted.String() + `"`
}

// explain returns the error of a request to a registry, or of what the client of registries does in addition: it asks for a token.
func explain(ctx context.Context, host string, err error) error {
	// The order matters: for names such as localhost the client also tries HTTP, which is refused, and err has both errors.
	if cause := ctx.Err(); cause != nil {
		return interrupted(host, cause)
	}
	if errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError)) {
		return fail(ErrInvalid, "%s does not use HTTPS", quote(host))
	}
	if response := (*transport.Error)(nil); errors.As(err, &response) {
		return refused(response.Request.URL.Host, "", response.StatusCode, response.Errors)
	}
	if own := (*failure)(nil); errors.As(err, &own) && !errors.Is(own, errPlainHTTP) {
		return own
	}
	if reason := networkReason(err); reason != "" {
		return fail(ErrUnavailable, "no connection to the registry %s: %s", quote(host), reason)
	}
	if errors.Is(err, errPlainHTTP) {
		return errPlainHTTP
	}
	if errors.As(err, new(*net.AddrError)) || errors.As(err, new(*net.ParseError)) {
		return fail(ErrInvalid, "%s is not the address of a registry", quote(host))
	}
	return fail(ErrInvalid, "the registry %s asks for authentication, or answers, in a way that is not supported, such as a token server "+
		"without HTTPS, or at a private address", quote(host))
}

func interrupted(host string, cause error) error {
	f := fail(ErrUnavailable, "the registry %s did not answer in time", quote(host))
	if !errors.Is(cause, context.DeadlineExceeded) {
		f = fail(ErrUnavailable, "the request to the registry %s was cancelled", quote(host))
	}
	f.cause = cause
	return f
}

// networkReason returns why there is no connection; empty if err is another error. The reason does not say which addresses a name has.
func networkReason(err error) string {
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		operation   *net.OpError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "the name is not found"
	case errors.As(err, &name):
		return "the name cannot be resolved"
	case errors.As(err, &certificate):
		return "its certificate is not valid: " + quote(certificate.Err.Error())
	case errors.As(err, new(tls.AlertError)):
		return "it refuses TLS"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, new(*net.AddrError)), errors.As(err, new(*net.ParseError)):
		return ""
	case errors.As(err, &operation):
		return quote(operation.Err.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection"
	}
	return ""
}

// refused returns the error of a response with the given status. what is what was asked for; empty if it was not an object.
func refused(host, what string, status int, diagnostics []transport.Diagnostic) error {
	if what == "" {
		what = "access"
	}
	says := ""
	if len(diagnostics) > 0 {
		says = "; it says " + quote(strings.TrimSuffix(fmt.Sprintf("%s: %s", diagnostics[0].Code, diagnostics[0].Message), ": "))
	}
	answer := fmt.Sprintf("status %d for %s%s", status, what, says)
	switch {
	case status == http.StatusNotFound:
		return fail(ErrNotFound, "the registry %s does not have the image: %s", quote(host), answer)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fail(ErrUnauthorized, "the registry %s refuses access: the image is private or does not exist: %s", quote(host), answer)
	case status == http.StatusTooManyRequests:
		return fail(ErrUnavailable, "the registry %s gets too many requests: %s", quote(host), answer)
	case status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return fail(ErrUnavailable, "the registry %s does not work: %s", quote(host), answer)
	}
	return fail(ErrInvalid, "the registry %s gives an unexpected answer: %s", quote(host), answer)
}

// diagnostics returns what a registry says about an error, in the format of the distribution specification; nil if it says something else.
func diagnostics(body []byte) []transport.Diagnostic {
	var parsed transport.Error
	if json.Unmarshal(body, &parsed) != nil {
		return nil
	}
	return parsed.Errors
}
