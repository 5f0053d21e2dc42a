package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// nodePrograms are what a real node needs and no Go module has, with the Debian package of each.
var nodePrograms = []struct{ program, debian string }{
	{"runc", "runc"},
	{"nft", "nftables"},
	{"ip", "iproute2"},
}

// RequiredVariable names the environment variable that, set to true, makes a test fail that needs a real node and cannot have
// one, instead of passing it over: CI sets it.
const RequiredVariable = "REQUIRE_REAL_NODE"

// Required reports whether a real node has to be there.
func Required() bool { return os.Getenv(RequiredVariable) == "true" }

// Available reports, as an error of one sentence, why a control plane with nodes of a kind cannot be started, and how to
// change that.
func Available(kind NodeKind) error {
	assets, err := FindAssets("")
	if err != nil || kind != Real {
		return err
	}
	return canRunNodes(assets)
}

// canRunNodes is Preflight, and a look at the executables, which are built apart from those of the control plane.
func canRunNodes(assets string) error {
	if err := Preflight(); err != nil {
		return err
	}
	for _, name := range []string{Kubelet, kubeProxy, containerd, coreDNS, "nodeinit", "pause"} {
		if _, err := os.Stat(filepath.Join(assets, name)); err != nil {
			return fmt.Errorf("a real node needs executables that are not built: run \"make node\" (%w)", err)
		}
	}
	return nil
}

// Preflight reports, as an error of one sentence, what this machine lacks for a real node, and how to get it. Nil means that
// a real node can run.
func Preflight() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("a real node needs Linux, and this is %s: use a played node, or a virtual machine", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("a real node needs root, for namespaces and cgroups: run the command as root, in a machine or a container that may be used for it")
	}
	var packages []string
	for _, needed := range nodePrograms {
		if _, err := exec.LookPath(needed.program); err != nil {
			packages = append(packages, needed.debian)
		}
	}
	if len(packages) > 0 {
		return fmt.Errorf("a real node needs %s, which this machine does not have: run \"make node-tools\" on Debian, or install the packages of these names",
			strings.Join(packages, ", "))
	}
	if missing := missingControllers(); len(missing) > 0 {
		return fmt.Errorf("a real node needs the cgroup controllers %s, which are not mounted on /sys/fs/cgroup: mount cgroups there, or use another machine",
			strings.Join(missing, ", "))
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(filesystems), "\toverlay\n") {
		return errors.New("a real node needs the file system overlay, which this kernel does not have: run \"modprobe overlay\", or use another machine")
	}
	if err := tryNamespaces(); err != nil {
		return fmt.Errorf("a real node needs namespaces of processes, mounts and the network, which may not be made here (%w): run it outside of a container, or in one that is privileged", err)
	}
	return nil
}

// missingControllers are the cgroup controllers of pods that are not there.
func missingControllers() []string {
	var there string
	if content, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		there = string(content)
	} else {
		for _, root := range cgroupRoots() {
			there += " " + root[strings.LastIndex(root, "/")+1:]
		}
	}
	var missing []string
	for _, controller := range []string{"cpu", "memory", "pids"} {
		if !strings.Contains(" "+strings.ReplaceAll(there, ",", " ")+" ", " "+controller+" ") && !strings.Contains(there, " "+controller+"\n") {
			missing = append(missing, controller)
		}
	}
	return missing
}
