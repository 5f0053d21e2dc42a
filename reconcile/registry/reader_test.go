package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	fake "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"mcpserver-operator/reconcile/registry"
)

// The client of a test server connects to that server for all names below example.com.
const (
	host      = "registry.example.com"
	reference = host + "/team/app:v1"
	manifests = "/v2/team/app/manifests/"
	blobs     = "/v2/team/app/blobs/"
)

// server is a registry in this process, with HTTPS.
type server struct {
	*httptest.Server
	// intercept answers a request instead of the registry if it returns true.
	intercept func(w http.ResponseWriter, r *http.Request) bool

	mutex    sync.Mutex
	requests []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	next := fake.New(fake.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		s.mutex.Unlock()
		if s.intercept == nil || !s.intercept(w, r) {
			next.ServeHTTP(w, r)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) reader() *registry.Reader {
	return &registry.Reader{Transport: s.Client().Transport, Architecture: "amd64"}
}

func (s *server) options() remote.Option { return remote.WithTransport(s.Client().Transport) }

// push pushes an image and returns its digest.
func (s *server) push(t *testing.T, to string, image v1.Image) string {
	t.Helper()
	if err := remote.Write(parse(t, to), image, s.options()); err != nil {
		t.Fatal(err)
	}
	return digestOf(t, image)
}

// pushIndex pushes an index and returns its digest. The first manifest of the index is an artifact that is not an image.
func (s *server) pushIndex(t *testing.T, manifests ...mutate.IndexAddendum) string {
	t.Helper()
	index := mutate.AppendManifests(empty.Index, manifests...)
	if err := remote.WriteIndex(parse(t, reference), index, s.options()); err != nil {
		t.Fatal(err)
	}
	raw, err := index.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	artifact := `{"mediaType":"application/vnd.example.thing","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}`
	separator := ","
	if len(manifests) == 0 {
		separator = ""
	}
	return s.put(t, string(types.OCIImageIndex), strings.Replace(string(raw), `"manifests":[`, `"manifests":[`+artifact+separator, 1))
}

// put stores the body of a manifest as it is, with the tag v1, and returns its digest.
func (s *server) put(t *testing.T, mediaType, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+manifests+"v1", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", mediaType)
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatalf("storing a manifest has the status %s", response.Status)
	}
	hash, _, err := v1.SHA256(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

// forget forgets the requests until now.
func (s *server) forget() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests = nil
}

func (s *server) seen(prefix string) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(slices.DeleteFunc(slices.Clone(s.requests), func(r string) bool { return !strings.HasPrefix(r, prefix) }))
}

func parse(t *testing.T, reference string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func image(t *testing.T, platform string, config v1.Config) v1.Image {
	t.Helper()
	os, architecture, _ := strings.Cut(platform, "/")
	made, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: os, Architecture: architecture, Config: config, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func runs(t *testing.T, entrypoint ...string) v1.Image {
	t.Helper()
	return image(t, "linux/amd64", v1.Config{Entrypoint: entrypoint})
}

func of(platform string, image v1.Image) mutate.IndexAddendum {
	os, architecture, _ := strings.Cut(platform, "/")
	return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: architecture}}}
}

func expectImage(t *testing.T, reader *registry.Reader, want registry.Image) {
	t.Helper()
	got, err := reader.Read(t.Context(), want.Reference)
	if err != nil {
		t.Errorf("Read(%s) fails: %v", want.Reference, err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("Read(%s) = %+v, want %+v", want.Reference, got, want)
	}
}

// expectError reads an image and expects an error of exactly one kind that says something. Each message is fit for a status.
func expectError(t *testing.T, reader *registry.Reader, image string, kind error, says string) {
	t.Helper()
	got, err := reader.Read(t.Context(), image)
	if !reflect.DeepEqual(got, registry.Image{}) {
		t.Errorf("Read(%s) = %+v, want no image", image, got)
	}
	expectKind(t, err, kind, says)
}

func expectKind(t *testing.T, err, kind error, says string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v that says %q", kind, says)
	}
	for _, other := range []error{registry.ErrNotFound, registry.ErrUnauthorized, registry.ErrUnavailable, registry.ErrInvalid} {
		if errors.Is(err, other) != errors.Is(kind, other) {
			t.Errorf("the error %q is %v: %t, want that it is only %v", err, other, errors.Is(err, other), kind)
		}
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %q, want that it says %q", err, says)
	}
	if len(err.Error()) > 800 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
		t.Errorf("the message %q has %d bytes, or control characters", err, len(err.Error()))
	}
}

func TestCommand(t *testing.T) {
	for name, test := range map[string]struct {
		config     v1.Config
		entrypoint []string
		cmd        []string
	}{
		"entrypoint only": {
			config:     v1.Config{Entrypoint: []string{"/server", "stdio"}},
			entrypoint: []string{"/server", "stdio"},
		},
		"cmd only": {
			config: v1.Config{Cmd: []string{"node", "index.js"}},
			cmd:    []string{"node", "index.js"},
		},
		"both": {
			config:     v1.Config{Entrypoint: []string{"/server"}, Cmd: []string{"stdio"}},
			entrypoint: []string{"/server"},
			cmd:        []string{"stdio"},
		},
		"entrypoint that removes that of the base image": {
			config: v1.Config{Entrypoint: []string{""}, Cmd: []string{"/server"}},
			cmd:    []string{"/server"},
		},
		"$ is not expanded in what the image has": {
			config:     v1.Config{Entrypoint: []string{"/bin/sh", "-c", "exec $SERVER $(cat /args) $$"}, Cmd: []string{"$(HOME)"}},
			entrypoint: []string{"/bin/sh", "-c", "exec $SERVER $(cat /args) $$"},
			cmd:        []string{"$(HOME)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			digest := server.push(t, reference, image(t, "linux/amd64", test.config))
			want := registry.Image{Reference: reference, Digest: digest, Entrypoint: test.entrypoint, Cmd: test.cmd}
			expectImage(t, server.reader(), want)
		})
	}
}

func TestNoCommand(t *testing.T) {
	for name, test := range map[string]struct {
		config v1.Config
		says   string
	}{
		"neither":             {v1.Config{}, "neither an entrypoint nor a cmd"},
		"removed entrypoint":  {v1.Config{Entrypoint: []string{""}}, "neither an entrypoint nor a cmd"},
		"NUL character":       {v1.Config{Cmd: []string{"a\x00b"}}, "NUL"},
		"too many words":      {v1.Config{Cmd: make([]string, 1025)}, "too long"},
		"too many characters": {v1.Config{Cmd: []string{"sh", strings.Repeat("x", 32<<10)}}, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			server.push(t, reference, image(t, "linux/amd64", test.config))
			expectError(t, server.reader(), reference, registry.ErrInvalid, test.says)
		})
	}
	server := newServer(t)
	server.push(t, reference, image(t, "windows/amd64", v1.Config{Cmd: []string{"server.exe"}}))
	expectError(t, server.reader(), reference, registry.ErrInvalid, "not for Linux")
}

// The digest is that of the index: a pull by it works for all architectures.
func TestIndex(t *testing.T) {
	attestation := of("unknown/unknown", runs(t, "/attestation"))
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	unmarked := of("unknown/unknown", runs(t, "/unmarked"))
	marked := of("linux/amd64", runs(t, "/marked"))
	marked.Annotations = attestation.Annotations
	nested := mutate.IndexAddendum{Add: mutate.AppendManifests(empty.Index, of("linux/amd64", runs(t, "/nested")))}
	withoutPlatform := mutate.IndexAddendum{Add: runs(t, "/no-platform")}
	amd64, arm64, s390x := of("linux/amd64", runs(t, "/amd64")), of("linux/arm64", runs(t, "/arm64")), of("linux/s390x", runs(t, "/s390x"))
	windows := of("windows/amd64", runs(t, "/windows"))

	for name, test := range map[string]struct {
		manifests []mutate.IndexAddendum
		want      string
	}{
		"own architecture":                    {[]mutate.IndexAddendum{arm64, amd64}, "/amd64"},
		"attestations":                        {[]mutate.IndexAddendum{attestation, unmarked, marked, amd64}, "/amd64"},
		"artifacts and an index in the index": {[]mutate.IndexAddendum{nested, amd64}, "/amd64"},
		"other architectures only":            {[]mutate.IndexAddendum{attestation, windows, s390x, arm64}, "/s390x"},
		"own architecture, another OS":        {[]mutate.IndexAddendum{windows, arm64}, "/arm64"},
		"no platforms":                        {[]mutate.IndexAddendum{attestation, withoutPlatform}, "/no-platform"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			digest := server.pushIndex(t, test.manifests...)
			expectImage(t, server.reader(), registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{test.want}})
			byDigest := host + "/team/app@" + digest
			expectImage(t, server.reader(), registry.Image{Reference: byDigest, Digest: digest, Entrypoint: []string{test.want}})
		})
	}

	for name, test := range map[string]struct {
		manifests []mutate.IndexAddendum
		says      string
	}{
		"empty":             {nil, "no image"},
		"attestations only": {[]mutate.IndexAddendum{attestation, unmarked, nested}, "no image"},
		"another OS only":   {[]mutate.IndexAddendum{windows, unmarked}, `not for Linux, but for "windows/amd64"`},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			server.pushIndex(t, test.manifests...)
			expectError(t, server.reader(), reference, registry.ErrInvalid, test.says)
		})
	}
}

func TestDigestReference(t *testing.T) {
	server := newServer(t)
	digest := server.push(t, reference, runs(t, "/v1"))
	for _, byDigest := range []string{host + "/team/app@" + digest, host + "/team/app:other@" + digest} {
		expectImage(t, server.reader(), registry.Image{Reference: byDigest, Digest: digest, Entrypoint: []string{"/v1"}})
	}
	absent := strings.Repeat("0", 64)
	expectError(t, server.reader(), host+"/team/app@sha256:"+absent, registry.ErrNotFound, "does not have the image")

	server.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		r.URL.Path = strings.Replace(r.URL.Path, "sha256:"+absent, "v1", 1) // give another manifest
		return false
	}
	expectError(t, server.reader(), host+"/team/app@sha256:"+absent, registry.ErrInvalid, "its digest is not sha256:"+absent)
}

// Each document that a digest names is verified: the registry, or where it redirects to, could give another.
func TestDigestsInDocuments(t *testing.T) {
	server := newServer(t)
	digest := server.push(t, host+"/team/app:other", runs(t, "/other"))
	config, err := runs(t, "/other").ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	wrong := "sha256:" + strings.Repeat("0", 64)
	server.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		r.URL.Path = strings.NewReplacer("manifests/"+wrong, "manifests/"+digest, "blobs/"+wrong, "blobs/"+config.String()).Replace(r.URL.Path)
		return false
	}
	for _, test := range []struct{ what, digest, body, says string }{
		{"manifest", wrong, `{"schemaVersion":2,"manifests":[{"digest":"%s","platform":{"os":"linux","architecture":"amd64"}}]}`, "for the manifest"},
		{"manifest", "latest", `{"schemaVersion":2,"manifests":[{"digest":"%s"}]}`, `"latest", which is not a digest`},
		{"config", wrong, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s"}}`, "for the config"},
		{"config", "../../x", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s"}}`, "not a digest"},
	} {
		t.Run(test.what+" "+test.digest, func(t *testing.T) {
			mediaType := types.OCIManifestSchema1
			if test.what == "manifest" {
				mediaType = types.OCIImageIndex
			}
			body := fmt.Sprintf(test.body, test.digest)
			server.put(t, "text/plain", strings.Replace(body, "{", fmt.Sprintf(`{"mediaType":"%s",`, mediaType), 1))
			expectError(t, server.reader(), reference, registry.ErrInvalid, test.says)
		})
	}
}

func TestTagMoves(t *testing.T) {
	server := newServer(t)
	for _, command := range []string{"/v1", "/v2"} {
		digest := server.push(t, reference, runs(t, command))
		expectImage(t, server.reader(), registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{command}})
	}
}

func TestDocuments(t *testing.T) {
	const (
		ociConfig = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:00"}`
		oci       = string(types.OCIManifestSchema1)
		index     = string(types.OCIImageIndex)
	)
	for name, test := range map[string]struct{ mediaType, body, says string }{
		"schema 1, signed":       {string(types.DockerManifestSchema1Signed), `{"schemaVersion":1,"history":[]}`, "schema 1"},
		"schema 1":               {string(types.DockerManifestSchema1), `{"schemaVersion":1}`, "schema 1"},
		"schema 1 as plain JSON": {"application/json", `{"schemaVersion":1}`, "schema 1"},
		"broken JSON":            {oci, `{"schemaVersion":2,`, "not valid JSON"},
		"no JSON":                {oci, `<html>`, "not valid JSON"},
		"other JSON":             {oci, `{"schemaVersion":2,"config":[]}`, "not valid JSON"},
		"empty":                  {oci, ``, "not valid JSON"},
		"no config":              {oci, `{"schemaVersion":2}`, "no config"},
		"unknown media type":     {"text/html; charset=utf-8", `{"schemaVersion":2}`, `not of an image: its manifest has the media type "text/html"`},
		"no media type":          {"", `{"schemaVersion":2}`, "not of an image"},
		"two media types":        {oci, `{"schemaVersion":2,"mediaType":"` + index + `"}`, "but the registry gives it as"},
		"index and manifest":     {index, `{"schemaVersion":2,"manifests":[],` + ociConfig + `}`, "both"},
		"manifest and index":     {oci, `{"schemaVersion":2,"manifests":[],"layers":[]}`, "both"},
		"artifact": {oci, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:00"}}`,
			`an artifact of the type "application/vnd.cncf.helm.config.v1+json"`},
		"digest of a config": {oci, `{"schemaVersion":2,` + ociConfig + `}`, `"sha256:00", which is not a digest`},
		"huge config": {oci, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":4194305,"digest":"sha256:` +
			strings.Repeat("0", 64) + `"}}`, "config of the image has 4194305 bytes"},
		"huge index": {index, `{"schemaVersion":2,"manifests":[` + strings.Repeat("{},", 256) + `{}]}`, "more than 256 manifests"},
		"no list":    {index, `{"schemaVersion":2,"manifests":{}}`, "not valid JSON"},
		"null":       {index, `{"schemaVersion":2,"manifests":null}`, "no image"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t)
			server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != manifests+"v1" {
					return false
				}
				w.Header()["Content-Type"] = []string{test.mediaType}
				_, _ = io.WriteString(w, test.body)
				return true
			}
			expectError(t, server.reader(), reference, registry.ErrInvalid, test.says)
		})
	}
}

// Some registries do not know the media types of what they store.
func TestMediaTypeOfBody(t *testing.T) {
	server := newServer(t)
	made := runs(t, "/server")
	digest := server.push(t, reference, made)
	raw, err := made.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	server.put(t, "application/octet-stream", string(raw))
	expectImage(t, server.reader(), registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{"/server"}})
}

func TestConfigs(t *testing.T) {
	for _, body := range []string{`{`, `{"config":{"Entrypoint":"/server"}}`, ``} {
		server := newServer(t)
		hash, _, err := v1.SHA256(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		server.put(t, string(types.OCIManifestSchema1),
			`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+hash.String()+`"}}`)
		server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == blobs+hash.String() {
				_, _ = io.WriteString(w, body)
			}
			return r.URL.Path == blobs+hash.String()
		}
		expectError(t, server.reader(), reference, registry.ErrInvalid, "config of the image is not valid JSON")
	}
}

// No response is read further than its limit, whatever the registry says about its size.
func TestEndlessResponses(t *testing.T) {
	for _, test := range []struct{ path, says string }{
		{"/v2/", "status 503"},
		{manifests + "v1", "more than 4194304 bytes"},
		{blobs, "more than 4194304 bytes"},
		{"/token", "authentication"},
	} {
		t.Run(test.path, func(t *testing.T) {
			server := newServer(t)
			server.push(t, reference, runs(t, "/server"))
			var written int
			server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case test.path == "/token" && r.URL.Path == "/v2/":
					challenge(w, "https://"+host+"/token")
					return true
				case !strings.HasPrefix(r.URL.Path, test.path) || test.path == "/v2/" && r.URL.Path != test.path:
					return false
				case test.path == "/v2/":
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				for written < 128<<20 {
					n, err := w.Write(bytes.Repeat([]byte(" "), 1<<16))
					if written += n; err != nil {
						return true
					}
				}
				return true
			}
			kind := registry.ErrInvalid
			if test.path == "/v2/" {
				kind = registry.ErrUnavailable
			}
			expectError(t, server.reader(), reference, kind, test.says)
			server.Close() // waits for the handler
			if written > 64<<20 {
				t.Errorf("the registry could write %d bytes", written)
			}
		})
	}
}

func challenge(w http.ResponseWriter, realm string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="registry"`, realm))
	w.WriteHeader(http.StatusUnauthorized)
}

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

func TestTimeouts(t *testing.T) {
	for _, slow := range []string{"/v2/", manifests, blobs, "body of " + manifests, "/token"} {
		t.Run(slow, func(t *testing.T) {
			server := newServer(t)
			server.push(t, reference, runs(t, "/server"))
			arrived := make(chan struct{}, 10)
			server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if slow == "/token" && r.URL.Path == "/v2/" {
					challenge(w, "https://"+host+"/token")
					return true
				}
				path, body := strings.CutPrefix(slow, "body of ")
				if isPing := r.URL.Path == "/v2/"; isPing != (path == "/v2/") || !strings.HasPrefix(r.URL.Path, path) {
					return false
				}
				if body {
					w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
					_, _ = io.WriteString(w, `{"schemaVersion":2`)
					_ = http.NewResponseController(w).Flush()
				}
				arrived <- struct{}{}
				<-r.Context().Done()
				return true
			}
			reader := server.reader()
			reader.Timeout = 100 * time.Millisecond
			_, err := reader.Read(t.Context(), reference)
			expectKind(t, err, registry.ErrUnavailable, "did not answer in time")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error %v is not that of the context", err)
			}
			<-arrived

			reader.Timeout = 0
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-arrived
				cancel()
			}()
			_, err = reader.Read(ctx, reference)
			expectKind(t, err, registry.ErrUnavailable, "cancelled")
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the error %v is not that of the context", err)
			}
		})
	}
}

// roundTripper is a function as a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// lastRead is a body that ends after it calls the function.
type lastRead func()

func (f lastRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// If a look-up is cancelled, the server can end its response before the client closes the connection. The part is not the body.
func TestBodyEndsWithTheContext(t *testing.T) {
	server := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	reader := &registry.Reader{Transport: roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := server.Client().Transport.RoundTrip(request)
		if err == nil && strings.HasPrefix(request.URL.Path, manifests) {
			_ = response.Body.Close()
			response.StatusCode = http.StatusOK
			response.Body = io.NopCloser(lastRead(cancel))
		}
		return response, err
	})}
	_, err := reader.Read(ctx, reference)
	expectKind(t, err, registry.ErrUnavailable, "cancelled")
}

// plainServer is a server without HTTPS. It counts the requests.
func plainServer(t *testing.T) (server *httptest.Server, requests *int) {
	t.Helper()
	requests = new(int)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		*requests++
		w.WriteHeader(http.StatusOK)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server, requests
}

// The client of registries uses HTTP for names such as localhost, if HTTPS fails.
func TestRegistryWithoutHTTPS(t *testing.T) {
	plain, requests := plainServer(t)
	address, err := url.Parse(plain.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address.Host)
	}}
	for _, host := range []string{address.Host, "localhost:" + address.Port(), "10.0.0.1", host} {
		expectError(t, &registry.Reader{Transport: transport}, host+"/team/app:v1", registry.ErrInvalid, fmt.Sprintf("%q does not use HTTPS", host))
	}
	plain.Close()
	expectError(t, &registry.Reader{Transport: &http.Transport{}}, address.Host+"/team/app:v1", registry.ErrUnavailable, "connection refused")
	if *requests != 0 {
		t.Errorf("the registry got %d requests", *requests)
	}
}

func TestLoopbackRegistryWithHTTPS(t *testing.T) {
	server := newServer(t)
	loopback := strings.TrimPrefix(server.URL, "https://") + "/team/app:v1"
	digest := server.push(t, loopback, runs(t, "/server"))
	expectImage(t, server.reader(), registry.Image{Reference: loopback, Digest: digest, Entrypoint: []string{"/server"}})
}

func TestRedirects(t *testing.T) {
	plain, requests := plainServer(t)
	for _, path := range []string{"/v2/", manifests, blobs} {
		for name, test := range map[string]struct{ to, says string }{
			"HTTP":                  {plain.URL, "does not use HTTPS"},
			"HTTP of the same host": {"http://" + host, "does not use HTTPS"},
			"another scheme":        {"ftp://" + host, "does not use HTTPS"},
			"for ever":              {"https://" + host, ""},
		} {
			t.Run(path+" to "+name, func(t *testing.T) {
				server := newServer(t)
				server.push(t, reference, runs(t, "/server"))
				server.forget()
				server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					isPing := r.URL.Path == "/v2/"
					if isPing != (path == "/v2/") || !strings.HasPrefix(r.URL.Path, path) {
						return false
					}
					http.Redirect(w, r, test.to+r.URL.Path, http.StatusTemporaryRedirect)
					return true
				}
				expectError(t, server.reader(), reference, registry.ErrInvalid, test.says)
				if got := server.seen(""); got > 13 {
					t.Errorf("%d requests", got)
				}
			})
		}
	}
	if *requests != 0 {
		t.Errorf("the server without HTTPS got %d requests", *requests)
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

// A registry can make a client get tokens again and again.
func TestRequestsAreLimited(t *testing.T) {
	server := newServer(t)
	server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token/token/token/token/token":
			_, _ = io.WriteString(w, `{"token":"abc"}`)
		case strings.HasPrefix(r.URL.Path, "/token"):
			http.Redirect(w, r, "https://auth.example.com"+r.URL.Path+"/token", http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.URL.Path, manifests) && r.Host == host:
			http.Redirect(w, r, "https://other.example.com"+r.URL.Path, http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.URL.Path, manifests):
			if r.Header.Get("Authorization") == "" {
				challenge(w, "https://auth.example.com/token")
				return true
			}
			http.Redirect(w, r, "https://x"+r.Host+r.URL.Path, http.StatusTemporaryRedirect)
		default:
			challenge(w, "https://auth.example.com/token")
		}
		return true
	}
	expectError(t, server.reader(), reference, registry.ErrInvalid, "")
	if got := server.seen(""); got != 30 {
		t.Errorf("%d requests, want 30", got)
	}
}

// The own transport does not connect to the operator's pod and to the metadata services of clouds.
func TestAddresses(t *testing.T) {
	server := newServer(t)
	t.Setenv("HTTPS_PROXY", "")
	t.Setenv("https_proxy", "")
	for _, host := range []string{strings.TrimPrefix(server.URL, "https://"), "0.0.0.0:1", "169.254.169.254", "[fe80::1]", "[::ffff:127.0.0.1]:1", "[::]:1"} {
		expectError(t, &registry.Reader{}, host+"/team/app:v1", registry.ErrInvalid, "does not connect")
	}
	if server.seen("") != 0 {
		t.Errorf("there were requests: %q", server.requests)
	}
}

func TestUnknownCertificate(t *testing.T) {
	server := newServer(t)
	expectError(t, &registry.Reader{Transport: &http.Transport{}}, strings.TrimPrefix(server.URL, "https://")+"/team/app:v1", registry.ErrUnavailable,
		"certificate is not valid")
}

func TestConnectionEnds(t *testing.T) {
	server := newServer(t)
	server.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, manifests) {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	expectError(t, server.reader(), reference, registry.ErrUnavailable, "no connection")
}

func TestReferences(t *testing.T) {
	server := newServer(t)
	for _, invalid := range []string{
		"", "UPPER/case", "https://registry.example.com/team/app", "https:", "https://app", "registry.example.com/app\n", "registry.example.com/app@sha256:00",
		"user@registry.example.com/app", host + "/app:" + strings.Repeat("a", 129), strings.Repeat("a", 2000), "registry.example.com/a b", "registry.example.com:x/a",
		"ftp://team/app", strings.Repeat("a.", 1000) + "example.com/app",
	} {
		expectError(t, server.reader(), invalid, registry.ErrInvalid, "reference")
	}
	expectError(t, &registry.Reader{Transport: &http.Transport{}}, "registry.example.com:99999/app", registry.ErrInvalid, "not the address of a registry")
	if server.seen("") != 0 {
		t.Errorf("there were requests: %q", server.requests)
	}
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
