package chart

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli"
	helmregistry "helm.sh/helm/v4/pkg/registry"

	"mcpserver-operator/tests/cluster"
)

// publishedVersion is a prerelease, because CHANGELOG.md has a section for every other version.
const publishedVersion = "v0.9.0-rc.1"

// published is a release as make release and make release-push publish it, for the platform of this machine only.
type published struct {
	dir        string // the files
	host       string // the registry
	repository string // of the image
}

// TestARelease builds a release twice, pushes it to a registry, and installs it from there.
func TestARelease(t *testing.T) {
	p := publish(t)
	t.Run("two builds are identical", func(t *testing.T) {
		again := t.TempDir()
		p.run(t, again, "build")
		if one, two := p.read(t, "SHA256SUMS"), readFile(t, again, "SHA256SUMS"); one != two {
			t.Errorf("the checksums of two builds are\n%s\nand\n%s", one, two)
		}
	})
	t.Run("sha256sum accepts the checksums", func(t *testing.T) {
		check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
		check.Dir = p.dir
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("the image has the version", p.imageHasTheVersion)
	t.Run("helm installs the chart", p.helmInstalls)
	t.Run("kubectl installs the manifest, and runs the plugin", p.kubectlInstalls)
}

func publish(t *testing.T) *published {
	t.Helper()
	pushes := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(pushes.Close)
	host := strings.TrimPrefix(pushes.URL, "http://")
	p := &published{dir: filepath.Join(t.TempDir(), "release"), host: host, repository: host + "/team/mcpserver-operator"}
	p.run(t, p.dir, "build")
	p.run(t, p.dir, "push")
	return p
}

// run does what make release and make release-push do, also if there are files that are not committed.
func (p *published) run(t *testing.T, out, command string) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	must(t, err)
	here := "linux/" + runtime.GOARCH
	release := exec.CommandContext(t.Context(), "go", "run", "./cmd/release", "-root="+root, "-out="+out, "-version="+publishedVersion,
		"-revision=0123456789abcdef0123456789abcdef01234567", "-created=1793534400", "-tags=fieldsv1string",
		"-image-platforms="+here, "-plugin-platforms="+here, "-image-repository="+p.repository,
		"-chart-registry=oci://"+p.host+"/charts", "-source-url=https://git.example.com/team/mcpserver-operator", command)
	release.Dir = filepath.Join(root, "deploy", "release")
	if output, err := release.CombinedOutput(); err != nil {
		t.Fatalf("release %s: %v: %s", command, err, output)
	}
}

func (p *published) read(t *testing.T, name string) string {
	t.Helper()
	return readFile(t, p.dir, name)
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return string(content)
}

// imageHasTheVersion pulls the image, and verifies its label and the version of the operator in it.
func (p *published) imageHasTheVersion(t *testing.T) {
	img := p.pull(t, p.repository+":"+publishedVersion)
	config, err := img.ConfigFile()
	must(t, err)
	if got := config.Config.Labels["org.opencontainers.image.version"]; got != publishedVersion {
		t.Errorf("the label is %q", got)
	}
	operator := filepath.Join(t.TempDir(), "mcpserver-operator")
	must(t, os.WriteFile(operator, fileOf(t, img, "mcpserver-operator"), 0o700))
	out, err := exec.CommandContext(t.Context(), operator, "--version").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != publishedVersion {
		t.Errorf("the version is %q, %v", out, err)
	}
}

// pull pulls the image for this machine.
func (p *published) pull(t *testing.T, reference string) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(reference)
	must(t, err)
	img, err := remote.Image(parsed, remote.WithContext(t.Context()), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	must(t, err)
	return img
}

// fileOf returns the content of a file of an image.
func fileOf(t *testing.T, img v1.Image, path string) []byte {
	t.Helper()
	files := mutate.Extract(img)
	defer files.Close()
	for archive := tar.NewReader(files); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s is not in the image", path)
		}
		must(t, err)
		if header.Name == path {
			content, err := io.ReadAll(archive)
			must(t, err)
			return content
		}
	}
}

// helmInstalls does what helm install oci://… --version does, and verifies that the Deployment has the image of the release.
func (p *published) helmInstalls(t *testing.T) {
	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard))
	must(t, err)
	locate := action.NewInstall(&action.Configuration{RegistryClient: client})
	locate.SetRegistryClient(client)
	locate.Version, locate.PlainHTTP = strings.TrimPrefix(publishedVersion, "v"), true
	settings := cli.New()
	settings.ContentCache, settings.RepositoryCache = t.TempDir(), t.TempDir()
	archive, err := locate.LocateChart("oci://"+p.host+"/charts/mcpserver-operator", settings)
	must(t, err)
	pulled, err := loader.Load(archive)
	must(t, err)

	helmInstall(t, pulled, "") // waits until the Deployment is available
	if got, want := p.installedImage(t), p.repository+":"+publishedVersion; got != want {
		t.Errorf("helm installed %s, want %s", got, want)
	}
	p.pull(t, p.installedImage(t))
}

// installedImage returns the image of the Deployment.
func (p *published) installedImage(t *testing.T) string {
	t.Helper()
	return kubectl(t, "-n", cluster.OperatorNamespace, "get", "deployment", "mcpserver-operator",
		"-o", "jsonpath={.spec.template.spec.containers[0].image}")
}

// kubectlInstalls verifies that kubectl installs the image of the release by digest, and that the plugin in the archive accepts the operator as
// the one of its version.
func (p *published) kubectlInstalls(t *testing.T) {
	deleteCRD(t) // it belongs to a release of Helm
	manifest := filepath.Join(p.dir, "install.yaml")
	t.Cleanup(func() {
		_, err := theCluster.Kubectl(context.Background(), "delete", "-f", manifest, "--ignore-not-found")
		must(t, err)
	})
	kubectl(t, "apply", "--server-side", "-f", manifest)
	kubectl(t, "-n", cluster.OperatorNamespace, "rollout", "status", "--timeout=90s", "deployment/mcpserver-operator")
	installed := p.installedImage(t)
	if !strings.HasPrefix(installed, p.repository+":"+publishedVersion+"@sha256:") {
		t.Errorf("kubectl installed %s", installed)
	}
	p.pull(t, installed)

	bin := t.TempDir()
	archive := filepath.Join(p.dir, "kubectl-mcpserver_"+publishedVersion+"_linux_"+runtime.GOARCH+".tar.gz")
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", archive, "-C", bin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	web := filepath.Join(t.TempDir(), "web.yaml")
	must(t, os.WriteFile(web, []byte(webManifest), 0o600))
	stdout, stderr := p.plugin(t, bin, "mcpserver", "plan", "-f", web, "-n", newNamespace(t))
	if !strings.Contains(stdout, "StatefulSet") || strings.Contains(stderr, "Warning") {
		t.Errorf("the plugin prints\n%s\nand\n%s", stdout, stderr)
	}
	if stdout, _ := p.plugin(t, bin, "__complete", "mcpserver", "takeo"); !strings.HasPrefix(stdout, "takeover") {
		t.Errorf("kubectl completes to %q", stdout)
	}
}

// plugin runs kubectl with the plugin in the folder bin. kubectl mcpserver plan exits with 1 if it plans something.
func (p *published) plugin(t *testing.T, bin string, args ...string) (stdout, stderr string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), theCluster.KubectlPath(), args...)
	path := []string{bin, filepath.Dir(theCluster.KubectlPath()), os.Getenv("PATH")}
	command.Env = append(os.Environ(), "KUBECONFIG="+theCluster.Kubeconfig, "KUBECACHEDIR="+t.TempDir(), "PATH="+strings.Join(path, string(os.PathListSeparator)))
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	if err := command.Run(); err != nil && command.ProcessState.ExitCode() != 1 {
		t.Fatalf("kubectl %q: %v: %s%s", args, err, out.String(), errOut.String())
	}
	return out.String(), errOut.String()
}
