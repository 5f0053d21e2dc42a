package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// DefaultTimeout is the time that a look-up may take if [Reader.Timeout] is 0.
const DefaultTimeout = 20 * time.Second

// maxReference is the maximum length of a reference in bytes: that of a host, a repository, a tag and a digest.
const maxReference = 1024

// userAgent tells the owner of a registry who reads from it.
const userAgent = "mcpserver-operator"

// accept are the media types to ask for. With those of schema 1 the registry gives such a manifest, instead of saying that there is no image.
var accept = strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
	string(types.DockerManifestSchema1Signed), string(types.DockerManifestSchema1),
}, ", ")

// Reader reads images from their registries. The zero value is ready to use. All methods can be called at the same time.
type Reader struct {
	// Keychain has the credentials of the operator. If nil, all requests are anonymous.
	Keychain authn.Keychain
	// Architecture is the architecture to choose from an image for several, such as amd64. Defaults to that of the operator.
	Architecture string
	// Timeout is the time that a look-up may take, all requests together. Defaults to DefaultTimeout.
	Timeout time.Duration
	// Roots are the certificate authorities whose certificates registries may have. If nil, those of the system.
	Roots *x509.CertPool
	// Transport sends the requests, after the check that they use HTTPS. If nil, each look-up has its own connections, which do not go to
	// loopback and link-local addresses. Another transport has to limit the addresses and the size of headers itself.
	Transport http.RoundTripper
}

// Read looks up the image that a reference such as registry.example.com/server:v1 names. As in a pod, the registry defaults to Docker Hub and
// the tag to latest. Each error is of one of the kinds of this package, and its message is fit for a status.
func (r *Reader) Read(ctx context.Context, image string) (Image, error) {
	reference, err := parseReference(image)
	if err != nil {
		return Image{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, DefaultTimeout))
	defer cancel()

	base := r.Transport
	if base == nil {
		own := newTransport(r.Roots)
		defer own.CloseIdleConnections()
		base = own
	}
	repository, err := r.open(ctx, reference.Context(), &guard{RoundTripper: base})
	if err != nil {
		return Image{}, err
	}
	digest, entrypoint, cmd, err := repository.read(ctx, reference, cmp.Or(r.Architecture, runtime.GOARCH))
	if err != nil {
		return Image{}, err
	}
	return Image{Reference: image, Digest: digest, Entrypoint: entrypoint, Cmd: cmd}, nil
}

func parseReference(image string) (name.Reference, error) {
	if len(image) > maxReference {
		return nil, fail(ErrInvalid, "the reference of the image is longer than %d bytes", maxReference)
	}
	reference, err := name.ParseReference(image)
	if err != nil || strings.Contains(image, "://") { // name accepts "https:" as a registry
		return nil, fail(ErrInvalid, "%s is not a reference of an image", quote(image))
	}
	return reference, nil
}

// repository reads from one repository, with the access that its registry gave.
type repository struct {
	name.Repository
	client *http.Client
}

// open asks the registry how to authenticate, and gets a token if it wants one.
func (r *Reader) open(ctx context.Context, of name.Repository, guarded *guard) (*repository, error) {
	auth := authn.Anonymous
	if r.Keychain != nil {
		var err error
		if auth, err = authn.Resolve(ctx, r.Keychain, of); err != nil {
			// The error can have output of a credential helper, which is not for the user.
			return nil, fail(ErrUnavailable, "the operator cannot read its own credentials for the registry %s", quote(of.RegistryStr()))
		}
	}
	authenticated, err := transport.NewWithContext(ctx, of.Registry, auth, transport.NewUserAgent(guarded, userAgent),
		[]string{of.Scope(transport.PullScope)})
	if err != nil {
		return nil, explain(ctx, of.RegistryStr(), err)
	}
	return &repository{Repository: of, client: &http.Client{Transport: authenticated, CheckRedirect: checkRedirect}}, nil
}

// read returns the digest, the entrypoint and the cmd of an image in the repository.
func (r *repository) read(ctx context.Context, reference name.Reference, architecture string) (digest string, entrypoint, cmd []string, err error) {
	manifest, digest, err := r.manifest(ctx, reference.Identifier())
	if err != nil {
		return "", nil, nil, err
	}
	if manifest.MediaType.IsIndex() {
		chosen, err := choose(manifest.Manifests, architecture)
		if err != nil {
			return "", nil, nil, err
		}
		if _, err := v1.NewHash(chosen.Digest); err != nil {
			return "", nil, nil, fail(ErrInvalid, "the index of the image refers to %s, which is not a digest", quote(chosen.Digest))
		}
		if manifest, _, err = r.manifest(ctx, chosen.Digest); err != nil {
			return "", nil, nil, err
		}
		if manifest.MediaType.IsIndex() {
			return "", nil, nil, fail(ErrInvalid, "the index of the image refers to another index as a manifest")
		}
	}
	if err := checkConfig(manifest.Config); err != nil {
		return "", nil, nil, err
	}
	config, err := r.config(ctx, manifest.Config)
	if err != nil {
		return "", nil, nil, err
	}
	entrypoint, cmd, err = parseConfig(config)
	return digest, entrypoint, cmd, err
}

// manifest returns the manifest or index with a tag or digest, and its digest. The digest is computed: what the registry says is not used.
func (r *repository) manifest(ctx context.Context, identifier string) (*document, string, error) {
	body, header, err := r.get(ctx, "manifests", identifier, "the manifest", accept)
	if err != nil {
		return nil, "", err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(body))
	if err != nil {
		return nil, "", fail(ErrInvalid, "the digest of the manifest cannot be computed")
	}
	if wanted, err := v1.NewHash(identifier); err == nil { // a tag is not a digest
		if err := verify(body, wanted, "the manifest"); err != nil {
			return nil, "", err
		}
		digest = wanted
	}
	parsed, err := parseDocument(header.Get("Content-Type"), body)
	return parsed, digest.String(), err
}

func (r *repository) config(ctx context.Context, of *descriptor) ([]byte, error) {
	digest, err := v1.NewHash(of.Digest)
	if err != nil {
		return nil, fail(ErrInvalid, "the manifest of the image refers to %s, which is not a digest", quote(of.Digest))
	}
	if of.Size > maxBody {
		return nil, fail(ErrInvalid, "the config of the image has %d bytes, more than %d", of.Size, maxBody)
	}
	body, _, err := r.get(ctx, "blobs", digest.String(), "the config", "*/*")
	if err != nil {
		return nil, err
	}
	return body, verify(body, digest, "the config")
}

func verify(body []byte, wanted v1.Hash, what string) error {
	hasher, err := v1.Hasher(wanted.Algorithm)
	if err != nil {
		return fail(ErrInvalid, "%s of the image has a digest of an unknown kind", what)
	}
	_, _ = hasher.Write(body) // never fails, see hash.Hash
	if hex.EncodeToString(hasher.Sum(nil)) != wanted.Hex {
		return fail(ErrInvalid, "the registry gives something else for %s of the image: its digest is not %s", what, wanted)
	}
	return nil
}

// get returns the body and the headers of a resource of the repository.
func (r *repository) get(ctx context.Context, resource, identifier, what, accept string) ([]byte, http.Header, error) {
	address := url.URL{Scheme: "https", Host: r.RegistryStr(), Path: "/v2/" + r.RepositoryStr() + "/" + resource + "/" + identifier}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, nil, fail(ErrInvalid, "the reference of the image is not an address")
	}
	request.Header.Set("Accept", accept)
	response, err := r.client.Do(request)
	if err != nil {
		return nil, nil, explain(ctx, r.RegistryStr(), err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil {
		// A server that ends its response when it sees that the client goes can make a part of a body look complete.
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, explain(ctx, r.RegistryStr(), err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, refused(r.RegistryStr(), what, response.StatusCode, diagnostics(body))
	}
	return body, response.Header, nil
}
