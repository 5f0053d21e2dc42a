package release

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intotov1 "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// provenanceFile says from what the files of the release were built.
	provenanceFile = "provenance.intoto.json"
	provenanceType = "https://slsa.dev/provenance/v1"
)

// writeProvenance writes the provenance of the files in dir, as SLSA level 1 requires: it says what was built, from which commit, with which
// parameters and with which version of Go. It is not signed, and a maintainer's machine does not isolate builds, so it makes no claim of a higher
// level. It has no time of the build, so that two builds of a commit have the same provenance.
func (r Release) writeProvenance(ctx context.Context, dir string, digest v1.Hash) error {
	goVersion, err := r.goVersion(ctx)
	if err != nil {
		return err
	}
	subjects, err := r.subjects(dir, digest)
	if err != nil {
		return err
	}
	predicate, err := r.predicate(goVersion)
	if err != nil {
		return fmt.Errorf("make the provenance: %w", err)
	}
	statement := &intotov1.Statement{Type: intotov1.StatementTypeUri, Subject: subjects, PredicateType: provenanceType, Predicate: predicate}
	if err := statement.Validate(); err != nil {
		return fmt.Errorf("make the provenance: %w", err)
	}
	content, err := marshal(statement)
	if err != nil {
		return fmt.Errorf("make the provenance: %w", err)
	}
	return writeContent(filepath.Join(dir, provenanceFile), content)
}

// subjects returns the image and the files in dir.
func (r Release) subjects(dir string, digest v1.Hash) ([]*intotov1.ResourceDescriptor, error) {
	subjects := []*intotov1.ResourceDescriptor{
		{Name: r.ImageRepository + ":" + string(r.Version), Digest: map[string]string{digest.Algorithm: digest.Hex}},
	}
	sums, err := sumsOf(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range sums {
		subjects = append(subjects, &intotov1.ResourceDescriptor{Name: s.name, Digest: map[string]string{"sha256": s.sha256}})
	}
	return subjects, nil
}

func (r Release) predicate(goVersion string) (*structpb.Struct, error) {
	external, err := structpb.NewStruct(map[string]any{
		"VERSION":          string(r.Version),
		"IMAGE_REPOSITORY": r.ImageRepository,
		"CHART_REGISTRY":   r.ChartRegistry,
		"SOURCE_URL":       r.SourceURL,
		"DOWNLOAD_URL":     r.DownloadURL,
		"IMAGE_PLATFORMS":  join(r.ImagePlatforms),
		"PLUGIN_PLATFORMS": join(r.PluginPlatforms),
	})
	if err != nil {
		return nil, err
	}
	internal, err := structpb.NewStruct(map[string]any{"go": goVersion, "tags": r.Tags, "CGO_ENABLED": "0"})
	if err != nil {
		return nil, err
	}
	provenance := &provenancev1.Provenance{
		BuildDefinition: &provenancev1.BuildDefinition{
			BuildType:          r.SourceURL + "#make-release",
			ExternalParameters: external,
			InternalParameters: internal,
			ResolvedDependencies: []*intotov1.ResourceDescriptor{
				{Uri: "git+" + r.SourceURL, Digest: map[string]string{"gitCommit": r.Source.Revision}},
			},
		},
		RunDetails: &provenancev1.RunDetails{
			// Anybody who runs make release is this builder: it does not say who did.
			Builder: &provenancev1.Builder{Id: r.SourceURL + "#unsigned-build-without-isolation"},
		},
	}
	if err := provenance.Validate(); err != nil {
		return nil, err
	}
	content, err := protojson.Marshal(provenance)
	if err != nil {
		return nil, err
	}
	predicate := &structpb.Struct{}
	return predicate, protojson.Unmarshal(content, predicate)
}

// marshal returns a message as indented JSON. protojson varies its white space on purpose.
func marshal(message proto.Message) ([]byte, error) {
	content, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(content, &value); err != nil {
		return nil, err
	}
	content, err = json.MarshalIndent(value, "", "  ")
	return append(content, '\n'), err
}

// goVersion returns the version of Go that builds the programs.
func (r Release) goVersion(ctx context.Context) (string, error) {
	command := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	command.Dir = r.Root
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("find the version of Go: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func join(platforms []v1.Platform) string {
	var names []string
	for _, platform := range platforms {
		names = append(names, platform.String())
	}
	return strings.Join(names, " ")
}
