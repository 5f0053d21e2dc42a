package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

// containerdSocket is below the /run of a node, which is not visible outside its mount namespace.
const containerdSocket = "/run/containerd/containerd.sock"

// pauseImage is the image of the container that holds the namespaces of a pod.
const pauseImage = "controlplane.example/pause:1"

// containerdConfiguration is a format string. Its arguments are the folder of the node and the folder of the CNI plugins.
const containerdConfiguration = `version = 3
root = "%[1]s/containerd"
state = "/run/containerd/state"

[grpc]
address = "` + containerdSocket + `"

[plugins."io.containerd.internal.v1.opt"]
path = "%[1]s/containerd/opt"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "` + pauseImage + `"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["%[2]s"]
conf_dir = "%[1]s/cni"
`

// cniConfiguration connects the pods of a node with a bridge. Pods need the routes to reach Services. Its arguments are the
// folder of the node, the IPv4 subnet and the IPv6 subnet.
const cniConfiguration = `{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
    "ipam": {
      "type": "host-local", "dataDir": "%[1]s/cni-addresses",
      "ranges": [[{"subnet": "%[2]s"}], [{"subnet": "%[3]s"}]],
      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    }
  }]
}
`

// startContainerd starts the container runtime of a node and imports the image of the pause container.
func (cp *ControlPlane) startContainerd(ctx context.Context, node *realNode, pause string) error {
	if err := os.MkdirAll(filepath.Join(node.dir, "cni"), 0o755); err != nil {
		return fmt.Errorf("making the folder of the CNI plugins: %w", err)
	}
	config := filepath.Join(node.dir, "containerd.toml")
	for path, content := range map[string][]byte{
		config: fmt.Appendf(nil, containerdConfiguration, node.dir, cp.assets),
		filepath.Join(node.dir, "cni", "pods.conflist"): fmt.Appendf(nil, cniConfiguration,
			node.dir, podSubnet(node.number), podSubnet6(node.number)),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("configuring containerd: %w", err)
		}
	}
	ready := func(ctx context.Context) error { return cp.ctr(ctx, node, "version") }
	if err := cp.runIn(ctx, node.namespace, containerd+"-"+node.name, containerd, ready, "--config="+config); err != nil {
		return err
	}
	return cp.importImage(ctx, node, pause)
}

// ctr runs the containerd client on a node, in the containerd namespace that Kubernetes uses.
func (cp *ControlPlane) ctr(ctx context.Context, node *realNode, args ...string) error {
	var out bytes.Buffer
	command := exec.CommandContext(ctx, filepath.Join(cp.assets, "ctr"),
		append([]string{"--address", containerdSocket, "--namespace", "k8s.io"}, args...)...)
	command.Stdout, command.Stderr = &out, &out
	if err := node.namespace.Start(command); err != nil {
		return fmt.Errorf("running ctr on %s: %w", node.name, err)
	}
	if err := command.Wait(); err != nil {
		return fmt.Errorf("running ctr %s on %s: %w: %s", args[0], node.name, err, out.Bytes())
	}
	return nil
}

func (cp *ControlPlane) importImage(ctx context.Context, node *realNode, archive string) error {
	return cp.ctr(ctx, node, "images", "import", archive)
}

// LoadImage imports an image archive, as written by docker save, into every real node. The nodes cannot pull from a registry.
// Pods that use the image need a tag other than latest, or imagePullPolicy IfNotPresent.
func (cp *ControlPlane) LoadImage(ctx context.Context, archive string) error {
	for _, node := range cp.nodes {
		if err := cp.importImage(ctx, node, archive); err != nil {
			return err
		}
	}
	return nil
}

// writePauseImage writes the image archive of the pause container.
func (cp *ControlPlane) writePauseImage() (string, error) {
	pause, err := image.New(image.Spec{
		// containerd ignores an image for a different platform.
		Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   v1.Config{Entrypoint: []string{"/pause"}},
		Created:  time.Unix(0, 0),
		Files:    []image.File{image.Executable("/pause", filepath.Join(cp.assets, "pause"))},
	})
	if err != nil {
		return "", err
	}
	archive := filepath.Join(cp.Dir, "pause.tar")
	return archive, image.WriteArchive(archive, pauseImage, pause)
}
