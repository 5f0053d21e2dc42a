package observe

import (
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
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
	// Recorded is the image with whose command the pod template was built; nil if this is unknown. It can be another image than Reference.
	Recorded *v1beta1.ImageStatus
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
	recorded, err := r.recordedImage(s)
	if err != nil {
		return err
	}
	s.Image.Recorded = recorded
	if recorded != nil && recorded.Reference != image {
		recorded = nil
	}
	if recorded != nil {
		isCurrent, err := applyconfigs.IsOfSameInputs(s.Server, s.Fixed, s.Children.StatefulSet)
		if err != nil {
			return err
		}
		if isCurrent {
			s.Image.Found = recorded
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

// recordedImage returns the image whose command is in the pod template of the StatefulSet; nil if this is unknown.
//
// It uses the first of these sources that is valid:
//   - The annotation of the StatefulSet, if the operator owns it.
//   - The status of the MCPServer, if the pods run the command in it. A client that can write only the status must not decide what pods run.
//
// If the StatefulSet does not exist, recordedImage uses the status. The operator can then recreate the StatefulSet while the registry is down.
func (r *Reader) recordedImage(s *Snapshot) (*v1beta1.ImageStatus, error) {
	live, inStatus := s.Children.StatefulSet, s.Server.Status.Image
	if live == nil {
		return inStatus, nil
	}
	owners, err := ownership.OwnersOf(live, imagePath)
	if err != nil {
		return nil, err //nolint:wrapcheck // says which entry of managedFields it could not read
	}
	if record := applyconfigs.RecordedImage(live); record != nil && ownership.Owns(owners, Self) {
		return record, nil
	}
	if inStatus != nil && applyconfigs.RunsCommandOf(inStatus, s.Server, s.Fixed, r.Cluster, live) {
		return inStatus, nil
	}
	return nil, nil //nolint:nilnil // unknown
}
