package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/images"
)

// identity is the response of the tool whoami.
type identity struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// TestImagesRunAsTheyAre verifies that images with any user run as user 1000, in a namespace that rejects root. The server is a static
// binary in an image without a shell.
func TestImagesRunAsTheyAre(t *testing.T) {
	test := feature("images", "restricted")
	for name, image := range map[string]string{"root": rootImage, "named": namedImage, "numbered": serverImage} {
		who := &identity{}
		test = test.Assess("with the user "+name+" run as 1000", all(
			apply(server(name, image, "args: [-stateless]")), scaleIs(name, 1), call(name, "whoami", struct{}{}, who), isIdentity(who, 1000, 1000)))
	}
	testEnv.Test(t, test.Feature())
}

// TestATemplateDecidesWhomAnImageRunsAs verifies that the pod template can select the image's own user or a different user.
func TestATemplateDecidesWhomAnImageRunsAs(t *testing.T) {
	test := feature("a template", "baseline")
	for name, row := range map[string]struct {
		image, context string
		uid, gid       int
	}{
		"own-root":   {rootImage, "runAsNonRoot: false", 0, 0},
		"own-number": {serverImage, "runAsNonRoot: false", 65532, 0},
		"zero":       {serverImage, "runAsUser: 0", 0, 1000},
		"other":      {namedImage, "runAsUser: 7, runAsGroup: 8", 7, 8},
	} {
		who := &identity{}
		test = test.Assess(row.context+" with an image "+row.image, all(
			apply(server(name, row.image, "args: [-stateless]", "podTemplateSpec: {spec: {securityContext: {"+row.context+"}}}")),
			scaleIs(name, 1), call(name, "whoami", struct{}{}, who), isIdentity(who, row.uid, row.gid)))
	}
	testEnv.Test(t, test.Feature())
}

func isIdentity(who *identity, uid, gid int) features.Func {
	return step(func(_ context.Context, t *testing.T) {
		t.Helper()
		if *who != (identity{uid, gid}) {
			t.Fatalf("the server runs as %+v, want %d:%d", *who, uid, gid)
		}
	})
}

// TestServersListenWhereTheyAreReached covers servers that only read FASTMCP_HOST, and servers behind IPv6 Services.
func TestServersListenWhereTheyAreReached(t *testing.T) {
	testEnv.Test(t, feature("the address on which servers listen", "restricted").
		Assess("FASTMCP_HOST", all(
			apply(server("fastmcp", serverImage, "args: [-stateless, -host-env=FASTMCP_HOST, -port-env=FASTMCP_PORT]")),
			scaleIs("fastmcp", 1), aClient("fastmcp", succeeded, "-tool=whoami"))).
		Assess("an IPv6 Service", all(
			apply(server("six", serverImage, "args: [-stateless]", "service: {ipFamilies: [IPv6]}")),
			scaleIs("six", 1), aClient("six", succeeded, "-tool=whoami"))).
		Assess("a dual-stack Service, IPv6 first", all(
			apply(server("both", serverImage, "args: [-stateless]", "service: {ipFamilies: [IPv6, IPv4]}")),
			scaleIs("both", 1), aClient("both", succeeded, "-tool=whoami"))).
		Feature())
}

// TestTheExamplesRun runs all of deploy/examples in a namespace that enforces the restricted standard. The images of the examples
// cannot be pulled. The test server replaces each of them and ignores the arguments for the original image.
func TestTheExamplesRun(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	must(t, err)
	if len(files) < 10 {
		t.Fatalf("found only %d examples", len(files))
	}
	loadExampleImages(t, files)
	test := feature("the examples", "restricted").Setup(volumesFor("examples", 2))
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		test = test.Assess(filepath.Base(file), all(apply(string(content)), everyServerIsReady()))
	}
	testEnv.Test(t, test.Feature())
}

func loadExampleImages(t *testing.T, files []string) {
	t.Helper()
	dir, err := images.Folder()
	must(t, err)
	img, err := images.Server(t.Context(), dir)
	must(t, err)
	config, err := img.ConfigFile()
	must(t, err)
	changed := *config.Config.DeepCopy()
	changed.Entrypoint = append(changed.Entrypoint, "-stateless", "--") // the remaining arguments are not flags of the test server
	img, err = mutate.Config(img, changed)
	must(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		for _, found := range regexp.MustCompile(`image: *"?([^\s"}]+)`).FindAllStringSubmatch(string(content), -1) {
			must(t, load(t.Context(), found[1], img))
		}
	}
}

func load(ctx context.Context, name string, img v1.Image) error {
	return theCluster.LoadImage(ctx, name, img)
}

func everyServerIsReady() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "every MCPServer to be ready", func(ctx context.Context) (string, bool) {
			var list v1beta1.MCPServerList
			must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx))))
			var waits []string
			for i := range list.Items {
				if !isReady(&list.Items[i]) {
					waits = append(waits, list.Items[i].Name+": "+show(&list.Items[i]))
				}
			}
			return fmt.Sprintf("of %d: %s", len(list.Items), strings.Join(waits, "; ")), len(list.Items) > 0 && len(waits) == 0
		})
	})
}
