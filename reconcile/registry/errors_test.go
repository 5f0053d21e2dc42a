package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"mcpserver-operator/reconcile/registry"
)

func TestStatuses(t *testing.T) {
	for status, kind := range map[int]error{
		http.StatusNotFound:            registry.ErrNotFound,
		http.StatusUnauthorized:        registry.ErrUnauthorized,
		http.StatusForbidden:           registry.ErrUnauthorized,
		http.StatusTooManyRequests:     registry.ErrUnavailable,
		http.StatusRequestTimeout:      registry.ErrUnavailable,
		http.StatusInternalServerError: registry.ErrUnavailable,
		http.StatusServiceUnavailable:  registry.ErrUnavailable,
		http.StatusTeapot:              registry.ErrInvalid,
	} {
		for _, path := range []string{"/v2/", manifests, blobs} {
			if path == "/v2/" && status == http.StatusUnauthorized {
				continue // asks for authentication: see TestPrivate
			}
			t.Run(fmt.Sprint(status, " ", path), func(t *testing.T) {
				server := newServer(t)
				digest := server.push(t, reference, runs(t, "/server"))
				fails := true
				server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					isPing := r.URL.Path == "/v2/"
					if !fails || isPing != (path == "/v2/") || !strings.HasPrefix(r.URL.Path, path) {
						return false
					}
					w.WriteHeader(status)
					_, _ = io.WriteString(w, `{"errors":[{"code":"SOMETHING","message":"about it"}]}`)
					return true
				}
				server.forget()
				says := fmt.Sprintf("status %d", status)
				if path != "/v2/" {
					says = `it says "SOMETHING: about it"`
				}
				expectError(t, server.reader(), reference, kind, says)
				if requests := server.seen(""); requests > 4 {
					t.Errorf("%d requests, as if the look-up repeated them", requests)
				}
				fails = false
				expectImage(t, server.reader(), registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{"/server"}})
			})
		}
	}
	expectError(t, newServer(t).reader(), reference, registry.ErrNotFound, `it says "NAME_UNKNOWN`)
}

// What a registry says is quoted, short and printable, so that it cannot be taken for what the operator says.
func TestForeignText(t *testing.T) {
	server := newServer(t)
	says := ""
	server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, manifests) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s"}]}`, says)
		return true
	}
	for text, want := range map[string]string{
		`\n\u001b[2J\" Run: kubectl`:     `says "DENIED: \n\x1b[2J\" Run: kubectl"`,
		`\u202etxt.exe`:                  `says "DENIED: \u202etxt.exe"`,
		strings.Repeat("x", 10000):       `says "DENIED: ` + strings.Repeat("x", 247) + `…"`,
		strings.Repeat(`\u0000`, 1000):   `says "DENIED: ` + strings.Repeat(`\x00`, 61) + `…"`,
		strings.Repeat("\u00e9", 10000):  `says "DENIED: ` + strings.Repeat("\u00e9", 247) + `…"`,
		strings.Repeat("\u00e9", 30<<10): "status 403", // longer than is read, and then not JSON
	} {
		says = text
		_, err := server.reader().Read(t.Context(), reference)
		expectKind(t, err, registry.ErrUnauthorized, want)
	}
}
