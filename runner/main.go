// The runner stands in each pod in front of an MCP server. It gives clients one URL for all protocol versions, keeps sessions with the pod that has
// them, and goes on with them on another pod if that one is lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"mcpserver-operator/runner/process"
)

// executable is the name of the runner in an image and in the volume that the init container fills.
const executable = "mcp-runner"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mcp-runner:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "copy" {
		if len(args) != 2 {
			return errors.New("usage: mcp-runner copy DIR")
		}
		return copyTo(args[1])
	}
	config, err := parse(args, os.Getenv, os.Hostname)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	reaping, endReaping := context.WithCancel(context.Background())
	defer endReaping()
	go process.Reap(reaping)
	runner, err := newRunner(config, log)
	if err != nil {
		return err
	}
	return runner.serve(stopping)
}

// copyTo copies this executable into a directory.
func copyTo(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the executable: %w", err)
	}
	source, err := os.Open(self) //nolint:gosec // this program
	if err != nil {
		return fmt.Errorf("reading the executable: %w", err)
	}
	defer source.Close()
	// A container that restarts may still run the old file: the new one takes its name.
	temporary, err := os.CreateTemp(dir, executable)
	if err != nil {
		return fmt.Errorf("creating the copy: %w", err)
	}
	_, err = io.Copy(temporary, source)
	if err = errors.Join(err, temporary.Chmod(0o755), temporary.Close()); err == nil { // all users run it
		err = os.Rename(temporary.Name(), filepath.Join(dir, executable)) //nolint:gosec // the directory is an argument of the init container
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) //nolint:gosec // the file that was created above
		return fmt.Errorf("writing the copy: %w", err)
	}
	return nil
}
