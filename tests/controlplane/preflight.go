package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// nodePrograms are what a real node needs and no Go module has, with the Debian package of each.
var nodePrograms = []struct{ program, debian string }{
	{"runc", "runc"},
	{"nft", "nftables"},
	{"iptables", "iptables"},
	{"ip", "iproute2"},
	{"conntrack", "conntrack"},
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
