package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository returns a repository with one commit, which has the tag v1.0.0.
func repository(t *testing.T) (root string, run func(args ...string) string) {
	t.Helper()
	root = t.TempDir()
	run = func(args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), "git", append([]string{"-C", root, "-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)...)
		command.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-11-01T12:00:00Z", "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "--quiet")
	write(t, root, "CHANGELOG.md", "# Changelog\n\n## v1.0.0 (2026-11-01)\n\n## v0.9.0\n")
	write(t, root, ".gitignore", "/bin/\n")
	run("add", ".")
	run("commit", "--quiet", "--message=first")
	run("tag", "v1.0.0")
	return root, run
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

// TestSourceOf: what the build makes is not part of the sources.
func TestSourceOf(t *testing.T) {
	root, git := repository(t)
	write(t, root, "bin/release/install.yaml", "built")
	source, err := SourceOf(t.Context(), root, "v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Source{git("rev-parse", "HEAD"), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}); source != want {
		t.Errorf("the source is %v, want %v", source, want)
	}
}

// TestSourceOfAnotherState: a provenance with this commit would be wrong. Files in the folders of the release would be in the release, although
// git does not show them to the maintainer.
func TestSourceOfAnotherState(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(t *testing.T, root string, git func(args ...string) string)
		version Version
		want    string
	}{
		"a changed file": {func(t *testing.T, root string, _ func(...string) string) { write(t, root, "CHANGELOG.md", "other") }, "v1.1.0", " M CHANGELOG.md"},
		"a new file":     {func(t *testing.T, root string, _ func(...string) string) { write(t, root, "new.go", "package main") }, "v1.1.0", "?? new.go"},
		"a file that the settings hide": {func(t *testing.T, root string, git func(...string) string) {
			git("config", "status.showUntrackedFiles", "no")
			write(t, root, "deploy/local.yaml", "local")
		}, "v1.1.0", "?? deploy/"},
		"a file that the maintainer ignores here": {func(t *testing.T, root string, _ func(...string) string) {
			write(t, root, ".git/info/exclude", "*.local")
			write(t, root, "deploy/chart/values.local", "local")
		}, "v1.1.0", "?? deploy/"},
		"a file that the maintainer ignores everywhere": {func(t *testing.T, root string, git func(...string) string) {
			ignored := t.TempDir()
			write(t, ignored, "ignore", "local.yaml")
			git("config", "core.excludesFile", filepath.Join(ignored, "ignore"))
			write(t, root, "local.yaml", "local")
		}, "v1.1.0", "?? local.yaml"},
		"a file that another .gitignore hides": {func(t *testing.T, root string, _ func(...string) string) {
			write(t, root, "deploy/chart/.gitignore", "*")
		}, "v1.1.0", "?? deploy/"},
		"a changed file that git assumes to be unchanged": {func(t *testing.T, root string, git func(...string) string) {
			git("update-index", "--assume-unchanged", "CHANGELOG.md")
			write(t, root, "CHANGELOG.md", "other")
		}, "v1.1.0", " h CHANGELOG.md"},
		"a changed file that git skips": {func(t *testing.T, root string, git func(...string) string) {
			git("update-index", "--skip-worktree", "CHANGELOG.md")
			write(t, root, "CHANGELOG.md", "other")
		}, "v1.1.0", " S CHANGELOG.md"},
		"the tag of another commit": {func(_ *testing.T, _ string, git func(...string) string) {
			git("commit", "--quiet", "--allow-empty", "--message=second")
		}, "v1.0.0", "v1.0.0 is the tag of commit"},
	} {
		t.Run(name, func(t *testing.T) {
			root, git := repository(t)
			test.change(t, root, git)
			if _, err := SourceOf(t.Context(), root, test.version); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestCheckChangelog(t *testing.T) {
	root, _ := repository(t)
	for version, valid := range map[Version]bool{"v1.0.0": true, "v0.9.0": true, "v1.1.0-rc.1": true, "v1.1.0": false, "v1.0.0-rc.1": true} {
		if err := checkChangelog(root, version); (err == nil) != valid {
			t.Errorf("%s: %v", version, err)
		}
	}
}
