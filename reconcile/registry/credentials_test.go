package registry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"mcpserver-operator/reconcile/registry"
)

// keychain has the credentials of one registry.
type keychain struct {
	registry string
	authn.AuthConfig
	err error
}

func (k keychain) Resolve(of authn.Resource) (authn.Authenticator, error) {
	if k.err != nil || of.RegistryStr() != k.registry {
		return authn.Anonymous, k.err
	}
	return authn.FromConfig(k.AuthConfig), nil
}

func TestPrivate(t *testing.T) {
	admin := authn.AuthConfig{Username: "admin", Password: "secret"}
	isAdmin := func(r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		return user == admin.Username && password == admin.Password
	}
	for name, intercept := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"basic": func(w http.ResponseWriter, r *http.Request) bool {
			if isAdmin(r) {
				return false
			}
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
		"token server that refuses": func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path == "/token" && isAdmin(r):
				_, _ = io.WriteString(w, `{"token":"abc"}`)
			case r.URL.Path == "/token":
				w.WriteHeader(http.StatusUnauthorized)
			case r.Header.Get("Authorization") == "Bearer abc":
				return false
			default:
				challenge(w, "https://auth.example.com/token")
			}
			return true
		},
		"token without rights": func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path == "/token":
				_, _ = fmt.Fprintf(w, `{"access_token":"admin:%t"}`, isAdmin(r) && r.URL.Query().Get("scope") == "repository:team/app:pull")
			case r.Header.Get("Authorization") == "Bearer admin:true":
				return false
			case r.URL.Path == "/v2/":
				challenge(w, "https://auth.example.com/token")
			default:
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"requested access is denied"}]}`)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			digest := server.push(t, reference, runs(t, "/server"))
			server.intercept = intercept
			reader := server.reader()
			expectError(t, reader, reference, registry.ErrUnauthorized, "private or does not exist")
			reader.Keychain = keychain{registry: "other.example.com", AuthConfig: admin}
			expectError(t, reader, reference, registry.ErrUnauthorized, "private or does not exist")
			reader.Keychain = keychain{registry: host, AuthConfig: admin}
			expectImage(t, reader, registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{"/server"}})
		})
	}
}

// Credentials are for their registry only.
func TestRedirectGetsNoCredentials(t *testing.T) {
	server := newServer(t)
	digest := server.push(t, reference, runs(t, "/server"))
	var storage int
	server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Host == "storage.example.com" {
			storage++
			if r.Header.Get("Authorization") != "" {
				t.Errorf("the redirect has the credentials %s", r.Header.Get("Authorization"))
			}
			return false
		}
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.HasPrefix(r.URL.Path, blobs) {
			http.Redirect(w, r, "https://storage.example.com"+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	reader := server.reader()
	reader.Keychain = keychain{registry: host, AuthConfig: authn.AuthConfig{Username: "admin", Password: "secret"}}
	expectImage(t, reader, registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{"/server"}})
	if storage != 1 {
		t.Errorf("%d requests to the storage, want 1", storage)
	}
}

// The output of a credential helper is not for the user.
func TestBrokenKeychain(t *testing.T) {
	server := newServer(t)
	reader := server.reader()
	reader.Keychain = keychain{err: errors.New("helper: secret")}
	expectError(t, reader, reference, registry.ErrUnavailable, "operator cannot read its own credentials")
	if _, err := reader.Read(t.Context(), reference); strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %q, with that of the keychain", err)
	}
	if server.seen("") != 0 {
		t.Errorf("there were requests: %q", server.requests)
	}
}

// A registry chooses its token server. What that server answers is not shown: it need not be one.
func TestTokenServers(t *testing.T) {
	plain, requests := plainServer(t)
	for name, realm := range map[string]string{
		"HTTP":             plain.URL + "/token",
		"redirect to HTTP": "https://auth.example.com/redirect",
		"private address":  "https://10.0.0.1/token",
		"no token":         "https://auth.example.com/internal",
		"error":            "https://auth.example.com/error",
		"no URL":           "\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				switch r.URL.Path {
				case "/redirect":
					http.Redirect(w, r, plain.URL, http.StatusTemporaryRedirect)
				case "/internal":
					_, _ = io.WriteString(w, `{"internal":"secret"}`)
				case "/error":
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, "secret")
				default:
					challenge(w, realm)
				}
				return true
			}
			expectError(t, server.reader(), reference, registry.ErrInvalid, "")
			if _, err := server.reader().Read(t.Context(), reference); strings.Contains(err.Error(), "secret") {
				t.Errorf("the error %q shows the answer", err)
			}
		})
	}
	if *requests != 0 {
		t.Errorf("the server without HTTPS got %d requests", *requests)
	}
}
