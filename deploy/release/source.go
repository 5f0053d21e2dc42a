package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var revisions = regexp.MustCompile(`^[0-9a-f]{40}$`)

// ParseSource returns the source for a commit and its time in seconds since 1970.
func ParseSource(revision string, created int64) (Source, error) {
	if !revisions.MatchString(revision) {
		return Source{}, fmt.Errorf("%q is not a commit: it must have 40 hexadecimal digits", revision)
	}
	return Source{Revision: revision, Created: time.Unix(created, 0).UTC()}, nil
}

// SourceOf returns the commit that is checked out in root. It fails if the files are not those of the commit, or if the version is the tag of
// another commit, because the provenance would then be wrong.
func SourceOf(ctx context.Context, root string, version Version) (Source, error) {
	changed, err := changedFiles(ctx, root)
	if err != nil {
		return Source{}, err
	}
	if changed != "" {
		return Source{}, fmt.Errorf("the sources are not those of a commit: commit or remove these files, or use a new clone:\n%s", changed)
	}
	revision, err := git(ctx, root, "rev-parse", "HEAD")
	if err != nil {
		return Source{}, err
	}
	tags, err := git(ctx, root, "tag", "--list", string(version))
	if err != nil {
		return Source{}, err
	}
	if tags != "" {
		tagged, err := git(ctx, root, "rev-parse", "refs/tags/"+string(version)+"^{commit}")
		if err != nil {
			return Source{}, err
		}
		if tagged != revision {
			return Source{}, fmt.Errorf("%s is the tag of commit %s, but %s is checked out: run \"git checkout %s\", or choose another version", version, tagged, revision, version)
		}
	}
	seconds, err := git(ctx, root, "log", "-1", "--format=%ct")
	if err != nil {
		return Source{}, err
	}
	created, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Source{}, fmt.Errorf("read the time of the commit: %w", err)
	}
	return ParseSource(revision, created)
}

// changedFiles returns a line for each file that differs from the commit.
//
// The release is built from the files in root, so a file that git does not show to this maintainer would be in the release. Only .gitignore may
// hide files, because it is in the commit: it hides what the build makes. The ignore files and the settings of the maintainer hide nothing.
func changedFiles(ctx context.Context, root string) (string, error) {
	changed, err := git(ctx, root, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return "", err
	}
	others, err := git(ctx, root, "ls-files", "--others", "--directory", "--no-empty-directory", "--exclude-from=.gitignore")
	if err != nil {
		return "", err
	}
	for name := range strings.Lines(others) {
		changed += "\n?? " + strings.TrimSuffix(name, "\n")
	}
	// git status leaves out the files of which the maintainer has told git to assume that they are unchanged (a lower-case letter), or to skip them (S).
	files, err := git(ctx, root, "ls-files", "-v")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(files) {
		if tag, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); tag == "S" || tag != strings.ToUpper(tag) {
			changed += "\n " + tag + " " + name
		}
	}
	return strings.TrimPrefix(changed, "\n"), nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	//nolint:gosec // The arguments come from the maintainer who makes the release.
	command := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
	out, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimRight(string(out), "\n"), nil
}

// checkChangelog fails if CHANGELOG.md has no section for the version. A prerelease needs none.
func checkChangelog(root string, version Version) error {
	if version.IsPrerelease() {
		return nil
	}
	content, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md")) //nolint:gosec // It is in the sources.
	if err != nil {
		return fmt.Errorf("read the changes of the release: %w", err)
	}
	heading := "## " + string(version)
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line == heading || strings.HasPrefix(line, heading+" ") {
			return nil
		}
	}
	return fmt.Errorf("CHANGELOG.md has no section %q: write down what has changed", heading)
}
