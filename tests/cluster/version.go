package cluster

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// IsAtLeast reports whether the API server has at least the given version of Kubernetes, such as 1.37. Tests use it when behavior
// differs between versions.
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
