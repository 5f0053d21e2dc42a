package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// start starts a program in a process group of its own. Some bridges leave processes behind; stop ends them too.
func start(name string, args ...string) (*exec.Cmd, error) {
	command := exec.Command(name, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return command, nil
}

// stop ends a program: first with SIGTERM, after a few seconds with SIGKILL.
func stop(command *exec.Cmd) {
	descendants := tree(command.Process.Pid)
	_ = command.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(5*time.Second, func() { _ = command.Process.Kill() })
	_ = command.Wait() // it ends with the signal
	killer.Stop()
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	for _, pid := range descendants[1:] {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// tree returns a process and its descendants.
func tree(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))) // digits
		if fields, err := stat(pid); err == nil {
			parent, _ := strconv.Atoi(fields[1]) // digits
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// stat returns the fields of /proc/PID/stat after the name of the program.
func stat(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, fmt.Errorf("reading about a process: %w", err)
	}
	return strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:])), nil
}

// ticks is the number of units in a second in which the kernel counts CPU time.
const ticks = 100

// cpu returns the CPU time that processes have used. A process that has ended does not count.
func cpu(pids ...int) (used time.Duration) {
	for _, pid := range pids {
		fields, err := stat(pid)
		if err != nil {
			continue
		}
		for _, field := range fields[11:13] { // in user mode and in the kernel
			n, _ := strconv.Atoi(field) // digits
			used += time.Duration(n) * time.Second / ticks
		}
	}
	return used
}

// resident returns the resident memory of a process in bytes.
func resident(pid int) (int, error) { return memoryOf(pid, "Rss:") }

// proportional returns the resident memory of processes in bytes. What several processes share, each has a part of.
func proportional(pids ...int) (sum int) {
	for _, pid := range pids {
		if one, err := memoryOf(pid, "Pss:"); err == nil { // else it has ended
			sum += one
		}
	}
	return sum
}

func memoryOf(pid int, name string) (int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of a process: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				return 0, fmt.Errorf("reading the memory of a process: %w", err)
			}
			return n << 10, nil
		}
	}
	return 0, errors.New("the memory of the process is not known")
}
