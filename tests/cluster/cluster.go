// Package cluster provides test suites and the demo with a cluster on which the operator is installed from deploy/. The cluster
// is a new control plane, or an existing cluster on request. The operator runs as a separate process. It uses its own
// ServiceAccount and the permissions of deploy/, so that tests detect missing and excess permissions.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/deploy/image"
	"mcpserver-operator/tests/controlplane"
)

// ExistingVariable is the name of an environment variable. If it is "true", Start uses the cluster of KUBECONFIG. KUBECONFIG
// alone is not enough, because the suites install and delete objects and must not run on a cluster by accident.
const ExistingVariable = "USE_EXISTING_CLUSTER"

// Cluster is a cluster to test on.
type Cluster struct {
	// Kubeconfig is a file with the credentials of an administrator.
	Kubeconfig string
	// Config has the same credentials. It has no client-side rate limit.
	Config *rest.Config
	// Client is the administrator's client for typed objects, including MCPServers.
	Client client.WithWatch
	// Clients is the administrator's client for subresources.
	Clients kubernetes.Interface

	controlPlane *controlplane.ControlPlane // nil for an existing cluster
	kubectl      string
	root         string   // of the repository
	dir          string   // for temporary files
	programs     struct { // the executables, each built once
		sync.Mutex
		built map[string]bool // by path
	}
	scraper struct {
		sync.Mutex
		token string
	}
}

// Start starts a control plane with the given components. If ExistingVariable is true, it connects to the cluster of KUBECONFIG
// instead.
func Start(ctx context.Context, components ...string) (*Cluster, error) {
	return StartWith(ctx, controlplane.Options{Components: components})
}

// StartWith is Start with all options of a control plane.
func StartWith(ctx context.Context, options controlplane.Options) (*Cluster, error) {
	root, err := repositoryRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mcpserver-operator-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	c := &Cluster{root: root, dir: dir}
	if err := c.connect(ctx, options); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1beta1.AddToScheme(scheme))
	c.Client, err = client.NewWithWatch(c.Config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a client: %w", err), c.Stop(true))
	}
	c.Clients, err = kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a client: %w", err), c.Stop(true))
	}
	return c, nil
}

func (c *Cluster) connect(ctx context.Context, options controlplane.Options) error {
	if os.Getenv(ExistingVariable) == "true" {
		c.Kubeconfig, c.kubectl = os.Getenv(clientcmd.RecommendedConfigPathEnvVar), "kubectl"
		if c.Kubeconfig == "" {
			return fmt.Errorf("%s is true, but KUBECONFIG is not set", ExistingVariable)
		}
		config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
		if err != nil {
			return fmt.Errorf("reading KUBECONFIG: %w", err)
		}
		config.QPS = -1
		c.Config = config
		return nil
	}
	cp, err := controlplane.Start(ctx, options)
	if err != nil {
		return err
	}
	c.controlPlane, c.Kubeconfig, c.Config, c.kubectl = cp, cp.Kubeconfig, cp.Config, cp.Kubectl()
	return nil
}

// Stop stops the control plane if Start started it. If failed is set, it keeps the logs and prints their path.
func (c *Cluster) Stop(failed bool) error {
	var errs []error
	if c.controlPlane != nil {
		errs = append(errs, c.controlPlane.Stop(failed))
	}
	if failed {
		fmt.Fprintf(os.Stderr, "The logs of the operator are in %s\n", c.dir)
	} else {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

// Kill ends a component of the control plane with SIGKILL, as in a crash.
func (c *Cluster) Kill(component string) error {
	if c.controlPlane == nil {
		return errNotOurs
	}
	return c.controlPlane.Kill(component)
}

// StartAgain restarts a component that was killed, and returns when the component is ready.
func (c *Cluster) StartAgain(ctx context.Context, component string) error {
	if c.controlPlane == nil {
		return errNotOurs
	}
	return c.controlPlane.StartAgain(ctx, component)
}

// StartEnded restarts every component that has exited by itself, as the kubelet does.
func (c *Cluster) StartEnded(ctx context.Context) error {
	if c.controlPlane == nil {
		return nil // an existing cluster restarts its own components
	}
	return c.controlPlane.StartEnded(ctx)
}

var errNotOurs = errors.New("the suite did not start the control plane: it uses an existing cluster")

// Listen listens at an address of a real node, for a server of the test that pods connect to.
func (c *Cluster) Listen(ctx context.Context) (net.Listener, error) {
	if c.controlPlane == nil {
		return nil, errNotOurs
	}
	return c.controlPlane.Listen(ctx)
}

// LoadImage writes an image with a name, such as probe:v1, and imports it into every real node.
func (c *Cluster) LoadImage(ctx context.Context, reference string, img v1.Image) error {
	if c.controlPlane == nil {
		return errNotOurs
	}
	archive, err := os.CreateTemp(c.dir, "image-*.tar")
	if err != nil {
		return fmt.Errorf("making a file for the image %s: %w", reference, err)
	}
	defer archive.Close()
	if err := image.WriteArchive(archive.Name(), reference, img); err != nil {
		return err
	}
	return errors.Join(c.controlPlane.LoadImage(ctx, archive.Name()), os.Remove(archive.Name()))
}

// BuildImage builds an image, such as images.Server, and imports it into every real node under each of the given names.
func (c *Cluster) BuildImage(ctx context.Context, build func(ctx context.Context, dir string) (v1.Image, error), references ...string) error {
	img, err := build(ctx, filepath.Join(c.root, "bin/images"))
	if err != nil {
		return err
	}
	for _, reference := range references {
		if err := c.LoadImage(ctx, reference, img); err != nil {
			return err
		}
	}
	return nil
}

// OperatorImage builds the operator's image for the architecture of this machine. The version is linked into the binary.
func (c *Cluster) OperatorImage(ctx context.Context, version string) (v1.Image, error) {
	platform := v1.Platform{OS: "linux", Architecture: goruntime.GOARCH}
	index, err := image.OperatorRelease(c.root, buildTags, version, "", time.Unix(0, 0), platform).Build(ctx, filepath.Join(c.dir, "image"))
	if err != nil {
		return nil, err
	}
	return image.ForPlatform(index, platform)
}

// Helm runs Helm as the administrator and returns its output.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(filepath.Dir(c.kubectl), "helm"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HELM_CACHE_HOME="+c.dir, "HELM_CONFIG_HOME="+c.dir, "HELM_DATA_HOME="+c.dir)
	command.Dir = c.root
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// KubectlPath returns the path of the kubectl that matches the cluster.
func (c *Cluster) KubectlPath() string { return c.kubectl }

// Kubectl runs kubectl as the administrator and returns its output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.KubectlWithInput(ctx, "", args...)
}

// KubectlWithInput runs kubectl with the given standard input.
func (c *Cluster) KubectlWithInput(ctx context.Context, input string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, c.kubectl, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	command.Stdin = strings.NewReader(input)
	command.Dir = c.root
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Install installs the CRD, the ServiceAccount and the permissions of the operator from deploy/, without the Deployment.
func (c *Cluster) Install(ctx context.Context) error {
	return c.InstallFrom(ctx, c.root, "deploy/crd", "deploy/admission", "deploy/rbac")
}

// InstallFrom installs parts of deploy/ of another version of the operator, whose source is in a folder.
func (c *Cluster) InstallFrom(ctx context.Context, root string, parts ...string) error {
	for _, part := range parts {
		if _, err := c.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, part)); err != nil {
			return err
		}
	}
	return c.WaitForCRD(ctx, "mcpservers.toolhive.stacklok.dev")
}

// count returns the number of MCPServers.
func (c *Cluster) count(ctx context.Context) (int, error) {
	var servers v1beta1.MCPServerList
	if err := c.Client.List(ctx, &servers); err != nil {
		return 0, fmt.Errorf("listing the MCPServers: %w", err)
	}
	return len(servers.Items), nil
}

// repositoryRoot returns the nearest folder, from the working directory upwards, that has a go.mod and a main.go. The main.go is
// required because some tests have their own module.
func repositoryRoot() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the repository: %w", err)
	}
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		_, moduleErr := os.Stat(filepath.Join(at, "go.mod"))
		_, mainErr := os.Stat(filepath.Join(at, "main.go"))
		if moduleErr == nil && mainErr == nil {
			return at, nil
		}
	}
	return "", errors.New("looking for the repository: no go.mod with a main.go in or above the working directory")
}

// pollInterval is the interval for conditions that cannot be watched.
const pollInterval = 50 * time.Millisecond
