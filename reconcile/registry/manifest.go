package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// maxManifests is the maximum number of manifests of an index. An image for many platforms has about 20, and as many attestations.
	maxManifests = 256
	// maxWords and maxCommand limit the entrypoint and the cmd together: the number of words, and their size in bytes. They are kept
	// in memory and in the status.
	maxWords   = 1024
	maxCommand = 32 << 10
)

// document is a manifest or an index. It leaves out what is not needed, because a small document can list a million layers.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	Config        *descriptor     `json:"config"`
	Layers        present         `json:"layers"`
	Manifests     descriptors     `json:"manifests"`
}

// descriptor refers to a manifest or a config.
type descriptor struct {
	MediaType   types.MediaType `json:"mediaType"`
	Digest      string          `json:"digest"`
	Size        int64           `json:"size"`
	Platform    *platform       `json:"platform"`
	Annotations struct {
		ReferenceType string `json:"vnd.docker.reference.type"`
	} `json:"annotations"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// present is true if a member of a JSON object is there.
type present bool

// UnmarshalJSON implements json.Unmarshaler.
func (p *present) UnmarshalJSON(raw []byte) error {
	*p = string(raw) != "null"
	return nil
}

// descriptors are the manifests of an index.
type descriptors []descriptor

// UnmarshalJSON implements json.Unmarshaler. It stops at maxManifests, because the Go value of "{}" is many times as large.
func (d *descriptors) UnmarshalJSON(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	switch start, err := decoder.Token(); {
	case err != nil:
		return err
	case start == nil:
		return nil
	case start != json.Delim('['):
		return errors.New("the manifests are not a list")
	}
	*d = descriptors{} // is not nil even if it is empty
	for decoder.More() {
		if len(*d) == maxManifests {
			return fail(ErrInvalid, "the image has an index of more than %d manifests", maxManifests)
		}
		var next descriptor
		if err := decoder.Decode(&next); err != nil {
			return err
		}
		*d = append(*d, next)
	}
	return nil
}

// parseDocument returns the document in the body of a response. Its media type is one of an index or an image manifest.
func parseDocument(contentType string, body []byte) (*document, error) {
	var parsed document
	if err := json.Unmarshal(body, &parsed); err != nil {
		if own := (*failure)(nil); errors.As(err, &own) {
			return nil, own
		}
		return nil, fail(ErrInvalid, "the manifest of the image is not valid JSON of a manifest")
	}
	// Some registries do not know the media types, and OCI documents do not have to repeat them.
	served, _, _ := mime.ParseMediaType(contentType)
	switch servedAs := types.MediaType(served); {
	case !isKnown(servedAs):
		if parsed.MediaType == "" {
			parsed.MediaType = servedAs
		}
	case parsed.MediaType == "":
		parsed.MediaType = servedAs
	case parsed.MediaType != servedAs:
		return nil, fail(ErrInvalid, "the manifest of the image has the media type %s, but the registry gives it as %s",
			quote(string(parsed.MediaType)), quote(served))
	}
	switch {
	case parsed.SchemaVersion == 1 || parsed.MediaType.IsSchema1():
		return nil, fail(ErrInvalid, "the image has a manifest of schema 1, a format that container runtimes no longer support")
	case !isKnown(parsed.MediaType):
		return nil, fail(ErrInvalid, "the reference is not of an image: its manifest has the media type %s", quote(string(parsed.MediaType)))
	case parsed.Manifests != nil && (parsed.Config != nil || bool(parsed.Layers)):
		// Two readers of such a document could see different images.
		return nil, fail(ErrInvalid, "the manifest of the image is both an index and a manifest")
	}
	return &parsed, nil
}

func isKnown(mediaType types.MediaType) bool {
	return mediaType.IsIndex() || mediaType.IsImage() || mediaType.IsSchema1()
}

// choose returns the manifest of an index for Linux and the given architecture. If there is none, it returns another one for Linux, because images
// have the same command for all architectures.
func choose(manifests []descriptor, architecture string) (descriptor, error) {
	images := slices.DeleteFunc(slices.Clone(manifests), descriptor.isOther)
	for _, matches := range []func(descriptor) bool{
		func(d descriptor) bool {
			return d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == architecture
		},
		func(d descriptor) bool { return d.Platform != nil && d.Platform.OS == "linux" },
		func(d descriptor) bool { return d.Platform == nil },
	} {
		if i := slices.IndexFunc(images, matches); i >= 0 {
			return images[i], nil
		}
	}
	if len(images) == 0 {
		return descriptor{}, fail(ErrInvalid, "the index of the image has no image")
	}
	var platforms []string
	for _, image := range images {
		platforms = append(platforms, image.Platform.OS+"/"+image.Platform.Architecture)
	}
	return descriptor{}, fail(ErrInvalid, "the image is not for Linux, but for %s", quote(strings.Join(platforms, ", ")))
}

// isOther reports whether a descriptor of an index is not an image: an attestation, another artifact, or an index in the index.
func (d descriptor) isOther() bool {
	return d.Annotations.ReferenceType != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" ||
		d.MediaType != "" && !d.MediaType.IsImage()
}

// checkConfig returns an error if what a manifest has as its config is not that of an image.
func checkConfig(config *descriptor) error {
	switch {
	case config == nil:
		return fail(ErrInvalid, "the manifest of the image has no config")
	case config.MediaType != types.OCIConfigJSON && config.MediaType != types.DockerConfigJSON:
		return fail(ErrInvalid, "the reference is of an artifact of the type %s, not of an image", quote(string(config.MediaType)))
	}
	return nil
}

// parseConfig returns the entrypoint and the cmd in the config of an image.
func parseConfig(body []byte) (entrypoint, cmd []string, err error) {
	var parsed struct {
		OS     string `json:"os"`
		Config struct {
			Entrypoint []string `json:"Entrypoint"`
			Cmd        []string `json:"Cmd"`
		} `json:"config"`
	}
	if err := json.Unmarshal(body, &parsed); err != nil {
		return nil, nil, fail(ErrInvalid, "the config of the image is not valid JSON of a config")
	}
	if parsed.OS != "" && parsed.OS != "linux" {
		return nil, nil, fail(ErrInvalid, "the image is not for Linux, but for %s", quote(parsed.OS))
	}
	entrypoint, cmd = parsed.Config.Entrypoint, parsed.Config.Cmd
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil // ENTRYPOINT [""] removes the entrypoint of the base image; container runtimes ignore it
	}
	words := slices.Concat(entrypoint, cmd)
	if len(words) == 0 {
		return nil, nil, fail(ErrInvalid, "the image has neither an entrypoint nor a cmd")
	}
	size := 0
	for _, word := range words {
		if size += len(word); strings.ContainsRune(word, 0) {
			return nil, nil, fail(ErrInvalid, "the command of the image has a NUL character")
		}
	}
	if len(words) > maxWords || size > maxCommand {
		return nil, nil, fail(ErrInvalid, "the command of the image is too long: it has %d words and %d bytes, and may have %d and %d",
			len(words), size, maxWords, maxCommand)
	}
	return entrypoint, cmd, nil
}
