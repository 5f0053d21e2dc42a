package image

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Runner is the name of the runner's program, which the pods of MCPServers get from the image of the operator.
const Runner = "mcp-runner"

// Operator is the name of the operator's program, and the name of its image in an archive.
const Operator = "mcpserver-operator"

// OperatorRelease returns the image of the operator. It is built from dir, a folder of the operator's module; if empty, the
// working directory. Revision is the commit, and created is the time of the commit. If revision is empty, the image has no
// label for it.
func OperatorRelease(dir, tags, version, revision string, created time.Time, platforms ...v1.Platform) Release {
	return Release{
		Programs: map[string]Program{
			Operator: {Dir: dir, Package: ".", Tags: tags, Version: version},
			Runner:   {Dir: dir, Package: "./runner", Tags: tags},
		},
		Entrypoint: Operator,
		Platforms:  platforms,
		About: About{
			Title:       Operator,
			Description: "Runs Model Context Protocol servers as StatefulSets, and leaves their scale to whoever sets it.",
			Version:     version,
			Revision:    revision,
			Licenses:    "Apache-2.0",
			Created:     created,
		},
	}
}
