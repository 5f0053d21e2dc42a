package registry

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
