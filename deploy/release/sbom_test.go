package release

import (
	"bytes"
	"debug/buildinfo"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// TestTheSBOMListsEveryModule verifies that the SBOM of a program has exactly the modules that the linker put into it, each with its license.
func TestTheSBOMListsEveryModule(t *testing.T) {
	r, dir := testRelease(), t.TempDir()
	path := filepath.Join(dir, "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./plugin")
	build.Dir = r.Root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	built, err := buildinfo.ReadFile(path)
	must(t, err)
	want := map[string]string{"std": built.GoVersion}
	for _, module := range built.Deps {
		want[module.Path] = module.Version
	}

	must(t, r.writeSBOMs(t.Context(), []program{{name: "kubectl-mcpserver", platform: platforms[0], path: path}}, dir))
	bom := &cdx.BOM{}
	must(t, cdx.NewBOMDecoder(bytes.NewReader(read(t, dir, "kubectl-mcpserver_v1.2.3-rc.1_linux_amd64.cdx.json")), cdx.BOMFileFormatJSON).Decode(bom))
	got := map[string]string{}
	for _, component := range *bom.Components {
		got[component.Name] = component.Version
		if component.Name != "std" && (component.Licenses == nil || len(*component.Licenses) == 0) {
			t.Errorf("module %s has no license", component.Name)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the modules are\n%v, want\n%v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if name := bom.Metadata.Component.Name; name != "kubectl-mcpserver" || bom.Metadata.Component.Version != string(r.Version) {
		t.Errorf("the program is %s %s", name, bom.Metadata.Component.Version)
	}
}
