package image

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Operator is the name of the operator's program, and of its image in an archive.
const Operator = "mcpserver-operator"

// OperatorRelease is the image of the operator, built from a folder of its module, the working directory if empty. Revision is
// the commit and created its time; an empty revision is not said in the image.
func OperatorRelease(dir, tags, version, revision string, created time.Time, platforms ...v1.Platform) Release {
	return Release{
		Programs:   map[string]Program{Operator: {Dir: dir, Package: ".", Tags: tags, Version: version}},
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
