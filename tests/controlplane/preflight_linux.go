package controlplane

import (
	"os/exec"
	"syscall"
)

// tryNamespaces starts a process in new namespaces.
func tryNamespaces() error {
	command := exec.Command("true")
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
	}
	return command.Run()
}
