package registry

import (
	"slices"
	"strings"
)

// Image is what the registry says of an image.
type Image struct {
	// Reference is the reference as asked for.
	Reference string
	// Digest is what the reference resolved to: the digest of the index, or of the manifest if there is no index. A pull of the reference by
	// this digest gives the same image.
	Digest string
	// Entrypoint and Cmd are those of the image, as a process gets them. At least one of them is not empty. They must not be modified.
	Entrypoint, Cmd []string
}

// Command returns the command of a container that runs the image with args: the entrypoint, and then args or, if args is empty, the cmd of
// the image. This is what Kubernetes runs if a container has args and no command.
//
// The result is for the field command or args of a container. Kubernetes expands references such as $(NAME) in these fields, but not in what the
// image has. Command therefore escapes each $ of the image as $$. It leaves args as they are.
func (i Image) Command(args []string) []string {
	command := escape(i.Entrypoint)
	if len(args) == 0 {
		return append(command, escape(i.Cmd)...)
	}
	return append(command, args...)
}

func escape(words []string) []string {
	escaped := slices.Clone(words)
	for i := range escaped {
		escaped[i] = strings.ReplaceAll(escaped[i], "$", "$$")
	}
	return escaped
}
