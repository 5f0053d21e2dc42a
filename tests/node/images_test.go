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

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/tests/images"
)

// identity is what the tool whoami answers.
type identity struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// TestImagesRunAsTheyAre: whatever their user is, they run as 1000, in a namespace that refuses root. The server is a static
// program in an image without a shell.
func TestImagesRunAsTheyAre(t *testing.T) {
	test := feature("images", "restricted")
	for name, image := range map[string]string{"root": rootImage, "named": namedImage, "numbered": serverImage} {
		who := &identity{}
		test = test.Assess("of which the user is "+name+" run as 1000", all(
			apply(server(name, image, "args: [-stateless]")), scaleIs(name, 1), call(name, "whoami", struct{}{}, who), isIdentity(who, 1000, 1000)))
	}
	testEnv.Test(t, test.Feature())
}

// TestATemplateDecidesWhomAnImageRunsAs: as its own user, or as another.
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
			t.Fatalf("it runs as %+v, not as %d:%d", *who, uid, gid)
		}
	})
}

// TestServersListenWhereTheyAreReached: servers that look only at FASTMCP_HOST, and behind a Service that is IPv6 only.
func TestServersListenWhereTheyAreReached(t *testing.T) {
	testEnv.Test(t, feature("where servers listen", "restricted").
		Assess("FASTMCP_HOST", all(
			apply(server("fastmcp", serverImage, "args: [-stateless, -host-env=FASTMCP_HOST, -port-env=FASTMCP_PORT]")),
			scaleIs("fastmcp", 1), aClient("fastmcp", succeeded, "-tool=whoami"))).
		Assess("an IPv6 Service", all(
			apply(server("six", serverImage, "args: [-stateless]", "service: {ipFamilies: [IPv6]}")),
			scaleIs("six", 1), aClient("six", succeeded, "-tool=whoami"))).
		Assess("a Service of both, IPv6 first", all(
			apply(server("both", serverImage, "args: [-stateless]", "service: {ipFamilies: [IPv6, IPv4]}")),
			scaleIs("both", 1), aClient("both", succeeded, "-tool=whoami"))).
		Feature())
}

// TestTheExamplesRun: all of deploy/examples, in a namespace that enforces the restricted standard. Their images are those of no
// registry: the server of the tests stands in for each, and takes no notice of the arguments that are meant for another.
func TestTheExamplesRun(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	must(t, err)
	if len(files) < 10 {
		t.Fatalf("there are only %d examples", len(files))
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
	changed.Entrypoint = append(changed.Entrypoint, "-stateless", "--") // what follows are no flags
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
			var list v1alpha1.MCPServerList
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
