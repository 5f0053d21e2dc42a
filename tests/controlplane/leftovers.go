package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// What a killed test leaves of a real node: the kernel has ended its processes and undone its mounts, because they were in
// namespaces that ended with it; its folder and its cgroups stay. Each says by whose process it was made.

// ownerFile is in the folder of a control plane with real nodes, with the id of the process that runs it.
const ownerFile = "owner"

// cgroupPrefix begins the name of each cgroup that a real node has.
const cgroupPrefix = "controlplane-"

// cgroupName is the name of the cgroup of a node.
func cgroupName(owner int, run string, node int) string {
	return fmt.Sprintf("%s%d-%s-%d", cgroupPrefix, owner, strings.TrimPrefix(run, "controlplane-"), node)
}

// removeLeftovers removes what control planes have left whose processes are gone, and marks this one as that of this
// process.
func (cp *ControlPlane) removeLeftovers() error {
	own := []byte(strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(filepath.Join(cp.Dir, ownerFile), own, 0o600); err != nil {
		return fmt.Errorf("marking the folder of the control plane: %w", err)
	}
	var errs []error
	marked, err := filepath.Glob(filepath.Join(filepath.Dir(cp.Dir), "controlplane-*", ownerFile))
	errs = append(errs, err)
	for _, path := range marked {
		owner, err := os.ReadFile(path)
		if err == nil && isGone(string(owner)) {
			errs = append(errs, os.RemoveAll(filepath.Dir(path)))
		}
	}
	for _, root := range cgroupRoots() {
		left, err := filepath.Glob(filepath.Join(root, cgroupPrefix+"*"))
		errs = append(errs, err)
		for _, path := range left {
			owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), cgroupPrefix), "-")
			if isGone(owner) {
				errs = append(errs, removeCgroup(path))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing what an earlier control plane has left: %w", err)
	}
	return nil
}

// disown takes the mark off the folder, which is removed or kept for its logs.
func (cp *ControlPlane) disown() error { return os.Remove(filepath.Join(cp.Dir, ownerFile)) }

// isGone reports whether the process of an id, in digits, has ended.
func isGone(id string) bool {
	pid, err := strconv.Atoi(id)
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// cgroupRoots are the mounted hierarchies: one with cgroup v2, one for each controller with v1 and with both.
func cgroupRoots() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil // Preflight says so
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() { // cpu,cpuacct and the like are links
			roots = append(roots, filepath.Join(root, entry.Name()))
		}
	}
	return roots
}

// makeCgroups makes the cgroup of a node in each hierarchy: the kubelet wants the root that it is given to exist.
func makeCgroups(name string) error {
	for _, root := range cgroupRoots() {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("making a cgroup: %w", err)
		}
		// A new cpuset of v1 has no processors, and then nothing can run in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			content, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue // another controller
			}
			if err := os.WriteFile(filepath.Join(path, file), content, 0); err != nil {
				return fmt.Errorf("preparing a cgroup: %w", err)
			}
		}
	}
	return nil
}

func removeCgroups(name string) error {
	var errs []error
	for _, root := range cgroupRoots() {
		errs = append(errs, removeCgroup(filepath.Join(root, name)))
	}
	return errors.Join(errs...)
}

// removeCgroup removes a cgroup and those below it. Its files are the kernel's: only folders are removed, the innermost
// first.
func removeCgroup(path string) error {
	var folders []string
	err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return nil // one that is gone meanwhile is none of our business
	})
	for _, folder := range slices.Backward(folders) {
		if removeErr := os.Remove(folder); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("removing a cgroup: %w", removeErr))
		}
	}
	return err
}
