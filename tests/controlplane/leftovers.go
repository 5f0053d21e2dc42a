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

// When a test with a real node is killed, the kernel ends the processes and removes the mounts, because their namespaces end.
// The folder and the cgroups remain. Both record the id of the process that created them, so that a later run can remove them.

// ownerFile is the name of a file in the folder of a control plane with real nodes. It contains the id of the owning process.
const ownerFile = "owner"

// cgroupPrefix is the prefix of the cgroup names of real nodes.
const cgroupPrefix = "controlplane-"

// cgroupName returns the name of a node's cgroup.
func cgroupName(owner int, run string, node int) string {
	return fmt.Sprintf("%s%d-%s-%d", cgroupPrefix, owner, strings.TrimPrefix(run, "controlplane-"), node)
}

// removeLeftovers removes the folders and cgroups of control planes whose owning process has ended. It marks the folder of
// this control plane as owned by this process.
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
		return fmt.Errorf("removing the leftovers of an earlier control plane: %w", err)
	}
	return nil
}

// disown removes the owner mark from the folder. The folder is then removed, or kept for its logs.
func (cp *ControlPlane) disown() error { return os.Remove(filepath.Join(cp.Dir, ownerFile)) }

// isGone reports whether the process with the given id, in decimal digits, has ended.
func isGone(id string) bool {
	pid, err := strconv.Atoi(id)
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// cgroupRoots returns the mounted cgroup hierarchies: a single one with cgroup v2, one per controller with v1.
func cgroupRoots() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil // Preflight reports this
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() { // skip links such as "cpu,cpuacct"
			roots = append(roots, filepath.Join(root, entry.Name()))
		}
	}
	return roots
}

// makeCgroups creates the cgroup of a node in each hierarchy. The kubelet requires that its root cgroup exists.
func makeCgroups(name string) error {
	for _, root := range cgroupRoots() {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("making a cgroup: %w", err)
		}
		// A new cpuset in cgroup v1 has no processors, and no process can run in it until some are assigned.
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

// removeCgroup removes a cgroup and its descendants, the innermost first. It only removes folders: the kernel manages the
// files in them.
func removeCgroup(path string) error {
	var folders []string
	err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return nil // it no longer exists, so there is nothing to remove
	})
	for _, folder := range slices.Backward(folders) {
		if removeErr := os.Remove(folder); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("removing a cgroup: %w", removeErr))
		}
	}
	return err
}
