package cluster

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// IsAtLeast reports whether the API server is of a version of Kubernetes, such as 1.37, or of a later one. Tests of what a version
// has changed ask for it, and look at the other behavior before that version.
func (c *Cluster) IsAtLeast(minimum string) (bool, error) {
	info, err := c.Clients.Discovery().ServerVersion()
	if err != nil {
		return false, fmt.Errorf("asking for the version of Kubernetes: %w", err)
	}
	running, err := version.ParseGeneric(info.GitVersion)
	if err != nil {
		return false, fmt.Errorf("reading the version of Kubernetes: %w", err)
	}
	return running.AtLeast(version.MustParseGeneric(minimum)), nil
}
