package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"mcpserver-operator/reconcile/registry"
)

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
