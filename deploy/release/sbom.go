package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/licensedetect/local"
	"github.com/rs/zerolog"
)

// generatorModule generates the SBOMs.
const generatorModule = "github.com/CycloneDX/cyclonedx-gomod"

// writeSBOMs writes an SBOM for each program. It lists the modules that the linker put into the program, with the licenses that are found in their
// sources.
func (r Release) writeSBOMs(ctx context.Context, programs []program, dir string) error {
	licensesOf, err := r.newLicenses(ctx)
	if err != nil {
		return err
	}
	for _, p := range programs {
		bom, err := r.sbom(p, licensesOf)
		if err != nil {
			return fmt.Errorf("make the SBOM of %s for %s: %w", p.name, p.platform, err)
		}
		path := filepath.Join(dir, r.fileName(p.name, p.platform.OS+"_"+p.platform.Architecture+".cdx.json"))
		if err := writeFile(path, func(w io.Writer) error {
			return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r Release) sbom(p program, licensesOf func(cdx.Component) (*cdx.Licenses, error)) (*cdx.BOM, error) {
	generator, err := bin.NewGenerator(p.path, bin.WithIncludeStdlib(true), bin.WithVersionOverride(string(r.Version)), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return nil, err
	}
	bom, err := generator.Generate()
	if err != nil {
		return nil, err
	}
	bom.Metadata.Timestamp = r.Source.Created.Format(time.RFC3339)
	bom.Metadata.Component.Name = p.name
	bom.Metadata.Component.Licenses = &cdx.Licenses{{License: &cdx.License{ID: licenses}}}
	bom.Metadata.Tools = &cdx.ToolsChoice{Components: &[]cdx.Component{
		{Type: cdx.ComponentTypeApplication, Name: generatorModule, Version: generatorVersion()},
	}}
	for i := range *bom.Components {
		component := &(*bom.Components)[i]
		if component.Licenses, err = licensesOf(*component); err != nil {
			return nil, err
		}
	}
	return bom, nil
}

// generatorVersion returns the version of the generator in this program.
func generatorVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == generatorModule {
			return module.Version
		}
	}
	return ""
}

// newLicenses returns a function that returns the licenses of a module of the operator; nil if none is found. The generator finds licenses itself
// only if it can also download the module of the operator.
func (r Release) newLicenses(ctx context.Context) (func(cdx.Component) (*cdx.Licenses, error), error) {
	folders, err := r.moduleFolders(ctx)
	if err != nil {
		return nil, err
	}
	detector := local.NewDetector(zerolog.Nop())
	known := map[string]*cdx.Licenses{}
	return func(component cdx.Component) (*cdx.Licenses, error) {
		folder, found := folders[component.Name]
		if !found {
			return nil, nil // the standard library
		}
		if licenses, found := known[component.Name]; found {
			return licenses, nil
		}
		detected, err := detector.Detect(component.Name, component.Version, folder)
		if err != nil {
			return nil, err
		}
		var all cdx.Licenses
		for i := range detected {
			all = append(all, cdx.LicenseChoice{License: &detected[i]})
		}
		if all != nil {
			known[component.Name] = &all
		}
		return known[component.Name], nil
	}, nil
}

// moduleFolders returns the folders of the modules of the operator, by the path of the module.
func (r Release) moduleFolders(ctx context.Context) (map[string]string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-json", "all")
	list.Dir = r.Root
	out, err := list.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("list the modules of the operator: %w", err)
	}
	if err := list.Start(); err != nil {
		return nil, fmt.Errorf("list the modules of the operator: %w", err)
	}
	folders := map[string]string{}
	for decoder := json.NewDecoder(out); ; {
		var module struct{ Path, Dir string }
		if err := decoder.Decode(&module); err != nil {
			if waited := list.Wait(); !errors.Is(err, io.EOF) || waited != nil {
				return nil, fmt.Errorf("list the modules of the operator: %w", errors.Join(err, waited))
			}
			return folders, nil
		}
		if module.Dir != "" { // otherwise no program needs the module
			folders[module.Path] = module.Dir
		}
	}
}
