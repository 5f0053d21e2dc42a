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

// nodePrograms are the programs that a real node requires and that no Go module provides, with the Debian package of each.
var nodePrograms = []struct{ program, debian string }{
	{"runc", "runc"},
	{"nft", "nftables"},
	{"ip", "iproute2"},
}

// RequiredVariable is the name of an environment variable. If it is "true", tests that require a real node fail when none
// can run. Otherwise these tests are skipped. CI sets the variable.
const RequiredVariable = "REQUIRE_REAL_NODE"

// Required reports whether tests must fail if no real node can run.
func Required() bool { return os.Getenv(RequiredVariable) == "true" }

// Available returns nil if a control plane with the given kind of node can start. Otherwise it returns an error of one
// sentence that states the reason and the fix.
func Available(kind NodeKind) error {
	assets, err := FindAssets("")
	if err != nil || kind != Real {
		return err
	}
	return canRunNodes(assets)
}

// canRunNodes runs Preflight and checks that the executables of a real node are built.
func canRunNodes(assets string) error {
	if err := Preflight(); err != nil {
		return err
	}
	for _, name := range []string{Kubelet, kubeProxy, containerd, coreDNS, "nodeinit", "pause"} {
		if _, err := os.Stat(filepath.Join(assets, name)); err != nil {
			return fmt.Errorf("a real node requires executables that are not built: run \"make node\" (%w)", err)
		}
	}
	return nil
}

// Preflight returns nil if a real node can run on this machine. Otherwise it returns an error of one sentence that states
// what is missing and how to get it.
func Preflight() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("a real node requires Linux, but this is %s: use a played node or a virtual machine", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("a real node requires root to create namespaces and cgroups: run the command as root, on a disposable machine or in a container")
	}
	var packages []string
	for _, needed := range nodePrograms {
		if _, err := exec.LookPath(needed.program); err != nil {
			packages = append(packages, needed.debian)
		}
	}
	if len(packages) > 0 {
		return fmt.Errorf("a real node requires %s, which this machine does not have: run \"make node-tools\" on Debian, or install the packages of these names",
			strings.Join(packages, ", "))
	}
	if missing := missingControllers(); len(missing) > 0 {
		return fmt.Errorf("a real node requires the cgroup controllers %s, which are not mounted on /sys/fs/cgroup: mount them there, or use another machine",
			strings.Join(missing, ", "))
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(filesystems), "\toverlay\n") {
		return errors.New("a real node requires the overlay file system, which this kernel does not have: run \"modprobe overlay\", or use another machine")
	}
	if err := tryNamespaces(); err != nil {
		return fmt.Errorf("a real node requires process, mount and network namespaces, which cannot be created here (%w): run the command outside a container, or in a privileged container", err)
	}
	return nil
}

// missingControllers returns the cgroup controllers that pods require and this machine lacks.
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
