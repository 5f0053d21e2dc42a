package registry_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

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

func challenge(w http.ResponseWriter, realm string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="registry"`, realm))
	w.WriteHeader(http.StatusUnauthorized)
}
