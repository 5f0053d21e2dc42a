package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// ParseReference parses the destination of a push. The registry and the tag are required. With defaults, a push could go to
// another registry, or overwrite another tag, than the user means.
func ParseReference(reference string) (name.Tag, error) {
	if reference == "" {
		return name.Tag{}, errors.New("no image is named: it must be REGISTRY/NAME:TAG, such as registry.example.com/mcpserver-operator:v1")
	}
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err == nil && strings.Contains(reference, "://") {
		err = errors.New("an image has no scheme such as https://") // NewTag accepts "https:" as a registry
	}
	if err != nil {
		return name.Tag{}, fmt.Errorf("%q does not name an image in a registry: it must be REGISTRY/NAME:TAG, such as "+
			"registry.example.com/mcpserver-operator:v1: %w", reference, err)
	}
	return tag, nil
}

// Push pushes the index and its images, with the credentials that "docker login" or "podman login" stored on this machine. It
// returns the reference by digest, which always refers to this index.
func Push(ctx context.Context, to name.Tag, index v1.ImageIndex) (name.Digest, error) {
	digest, err := index.Digest()
	if err != nil {
		return name.Digest{}, fmt.Errorf("compute the digest of the image: %w", err)
	}
	if err := remote.WriteIndex(to, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return name.Digest{}, fmt.Errorf("push %s: %w", to, err)
	}
	return to.Digest(digest.String()), nil
}
