package cluster

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// ServerVersion returns the version of the API server, such as v1.37.2.
func (c *Cluster) ServerVersion() (string, error) {
	info, err := c.Clients.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("asking for the version of Kubernetes: %w", err)
	}
	return info.GitVersion, nil
}

// IsAtLeast reports whether the API server has at least the given version of Kubernetes, such as 1.37. Tests use it when behavior
// differs between versions.
func (c *Cluster) IsAtLeast(minimum string) (bool, error) {
	server, err := c.ServerVersion()
	if err != nil {
		return false, err
	}
	running, err := version.ParseGeneric(server)
	if err != nil {
		return false, fmt.Errorf("reading the version of Kubernetes: %w", err)
	}
	return running.AtLeast(version.MustParseGeneric(minimum)), nil
}
