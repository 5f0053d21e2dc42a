package main

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFlags(t *testing.T) {
	c, err := parse([]string{"--idle-timeout=1m", "--allowed-origins=https://a.example, https://b.example", "--", "server", "--flag", "--"},
		func(name string) string { return map[string]string{"POD_NAME": "web-12"}[name] }, os.Hostname)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.command, " ") != "server --flag --" || c.ordinal != 12 || c.idleTimeout != time.Minute || len(c.limits.Origins) != 2 {
		t.Errorf("got %+v", c)
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	for flags, want := range map[string]string{
		"": "--upstream or a command",
		"--upstream=http://127.0.0.1:1 -- command": "--upstream or a command",
		"--on-pod-loss=Maybe -- command":           "Recreate or End",
		"--service=web --pod=web -- command":       "NAME-ORDINAL",
		"--peers=a:1 -- command":                   "HOST:PORT/HOST:PORT",
		"--peers=a:1/a:2 --pod=web -- command":     "NAME-ORDINAL",
		"--peers=a:1/a:2 --service=web -- command": "exclude each other",
		"--audit-results -- command":               "require --audit",
		"--max-sessions=0 -- command":              "must be positive",
	} {
		_, err := parse(strings.Fields(flags), func(string) string { return "" }, func() (string, error) { return "host", nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", flags, err)
		}
	}
}

func TestTheUpstreamIsAURLWithAHost(t *testing.T) {
	for upstream, want := range map[string]string{
		"localhost":   `must be a URL with a host, not "localhost"`,
		"http://[::1": "reading --upstream: parse",
	} {
		if _, err := newRunner(config{upstream: upstream}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
			t.Errorf("%q: got %v", upstream, err)
		}
	}
}

func TestTheRunnerCopiesItself(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // a container that restarts does it again
		if err := run([]string{"copy", dir}); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), filepath.Join(dir, executable), "-test.list=none")
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("the copy does not run: %v: %s", err, output)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

// A pod that is alone takes every session that it does not know. With other pods, the router decides.
func TestAPodWithPeersIsNotAlone(t *testing.T) {
	for flags, want := range map[string]bool{
		"--pod=web-0 -- command":                 true,
		"--pod=web-0 --service=web -- command":   false,
		"--pod=web-0 --peers=a:1/a:2 -- command": false,
	} {
		c, err := parse(strings.Fields(flags), func(string) string { return "" }, os.Hostname)
		if err != nil || c.isAlone() != want {
			t.Errorf("%q: got %t, %v", flags, c.isAlone(), err)
		}
	}
}
