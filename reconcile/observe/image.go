package observe

import (
	"cmp"
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/registry"
)

// Images tells what registries say of images.
type Images interface {
	// Get returns what is known of an image, for an MCPServer. It must not block a pass: if known is false, a result follows later, or, if err is
	// not nil, the caller must ask again.
	Get(server client.ObjectKey, image string) (found registry.Image, known bool, err error)
}

// ErrNotLookedUp is the error of an image if the operator does not look up images.
var ErrNotLookedUp = errors.New("the operator does not look up images in registries: its flag --image-lookup is false")

// askAgain is the time after which the operator asks again for an image if too many images wait to be looked up.
const askAgain = 10 * time.Second

// Image is what is known of the image of a stdio server, if its MCPServer does not say what to run.
type Image struct {
	// Reference is the image; empty if the MCPServer says what to run, or if its pods get no runner.
	Reference string
	// Found is what the registry says of the image; nil if this is unknown. It must not be modified.
	Found *v1beta1.ImageStatus
	// Recorded is the image with whose command the pod template was built, as the StatefulSet has it or, if it has no record or does not exist, the
	// status; nil if there is none. It can be another image than Reference.
	Recorded *v1beta1.ImageStatus
	// IsRecorded is true if Found is Recorded, and the pod template was built for the same MCPServer.
	IsRecorded bool
	// Err is why it is unknown. If Found and Err are nil, the image is being looked up.
	Err error
	// LookAgain is the time after which the image must be asked for again; zero if Images requests a pass.
	LookAgain time.Duration
}

// readImage finds out what is known of the image. The recorded image is used as long as the pod template stays as it is, so that neither a
// tag that moves nor a registry that is down changes running pods. With the next change, the operator asks the registry again.
func (r *Reader) readImage(s *Snapshot) error {
	image := applyconfigs.ImageToLookUp(s.Server, r.Cluster)
	if image == "" {
		return nil
	}
	s.Image.Reference = image
	s.Image.Recorded = cmp.Or(applyconfigs.RecordedImage(s.Children.StatefulSet), s.Server.Status.Image)
	recorded := s.Image.Recorded
	if recorded != nil && recorded.Reference != image {
		recorded = nil
	}
	if recorded != nil {
		isCurrent, err := applyconfigs.IsOfSameInputs(s.Server, s.Fixed, s.Children.StatefulSet)
		if err != nil {
			return err
		}
		if isCurrent {
			s.Image.Found, s.Image.IsRecorded = recorded, true
			return nil
		}
	}
	if r.Images == nil {
		if s.Image.Found = recorded; recorded == nil {
			s.Image.Err = ErrNotLookedUp
		}
		return nil
	}
	found, known, err := r.Images.Get(client.ObjectKeyFromObject(s.Server), image)
	switch {
	case known && err == nil:
		s.Image.Found = &v1beta1.ImageStatus{Reference: image, Digest: found.Digest, Entrypoint: found.Entrypoint, Cmd: found.Cmd}
	case known && recorded != nil:
		s.Image.Found = recorded
	case err != nil:
		s.Image.Err = err
		if !known {
			s.Image.LookAgain = askAgain
		}
	}
	return nil
}
