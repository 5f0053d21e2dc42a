package mcp

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// score is the result of a scenario.
type score struct{ passed, failed int }

var (
	scenarioLine = regexp.MustCompile(`^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed`)
	totalLine    = regexp.MustCompile(`^Total: (\d+) passed, (\d+) failed`)
)

// conformance runs all scenarios that a protocol version requires against a server.
func conformance(t *testing.T, url, version string) (total score, scenarios map[string]score) {
	t.Helper()
	arguments := append(install(t).suite(), "server", "--url", url, "--requirements", version)
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Dir = t.TempDir() // it writes its results there
	output, err := command.CombinedOutput()
	total, scenarios = parse(string(output))
	if len(scenarios) == 0 {
		t.Fatalf("the suite does not run: %v: %s", err, output)
	}
	if err != nil {
		t.Logf("the suite: %v", err) // its exit code says whether a scenario fails
	}
	return total, scenarios
}

func parse(output string) (total score, scenarios map[string]score) {
	scenarios = map[string]score{}
	for line := range strings.Lines(output) {
		if match := scenarioLine.FindStringSubmatch(line); match != nil {
			scenarios[match[1]] = scoreOf(match[2:])
		}
		if match := totalLine.FindStringSubmatch(line); match != nil {
			total = scoreOf(match[1:])
		}
	}
	return total, scenarios
}

func scoreOf(numbers []string) score {
	passed, _ := strconv.Atoi(numbers[0]) // digits
	failed, _ := strconv.Atoi(numbers[1])
	return score{passed, failed}
}

// passesAsMuchAs runs all scenarios against a server, and fails unless each passes what it passes in own. Some checks wait for a notification for a fixed time,
// which is too short on a busy machine: what does not pass gets a second chance. If mayMiss is true, the suite may leave out checks, but none may fail.
func passesAsMuchAs(t *testing.T, own map[string]score, url, version string, mayMiss bool) score {
	t.Helper()
	var total score
	var less []string
	for range 2 {
		var scenarios map[string]score
		total, scenarios = conformance(t, url, version)
		t.Logf("%s: %d passed, %d failed", version, total.passed, total.failed)
		less = nil
		for name, want := range own {
			got, isThere := scenarios[name]
			if mayMiss && got.passed < want.passed {
				t.Logf("%s, %s: %d checks are left out", version, name, want.passed-got.passed)
			}
			if !isThere || got.failed > want.failed || (got.passed < want.passed && !mayMiss) {
				less = append(less, fmt.Sprintf("%s, %s: %+v, the HTTP of the server: %+v", version, name, got, want))
			}
		}
		if len(less) == 0 {
			return total
		}
	}
	for _, one := range less {
		t.Error(one)
	}
	return total
}

// ownScores are the scores of the server with its own HTTP, by version.
var ownScores = map[string]map[string]score{}

// own returns what the server passes with its own HTTP. It lacks the extension for tasks of 2026-07-28.
func own(t *testing.T, version string) map[string]score {
	t.Helper()
	if ownScores[version] == nil {
		_, ownScores[version] = conformance(t, startServer(t, ownFlags(version)...).url, version)
	}
	return ownScores[version]
}

// ownFlags returns the flags of the server with its own HTTP. With sessions, it refuses the version without.
func ownFlags(version string) []string {
	if version == "2025-11-25" {
		return []string{"-stateless=false"}
	}
	return nil
}

// TestConformance verifies that the server behind the runner passes what its own HTTP passes: as a stdio server and as an HTTP server, and with three pods, to
// which the requests of a session go in turn, each on a connection of its own.
func TestConformance(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		for name, behind := range map[string]func(int) []string{
			"stdio": ofStdio(programs.server),
			"HTTP":  func(int) []string { return []string{"--upstream=" + startServer(t, ownFlags(version)...).url} },
		} {
			for _, replicas := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s, %s, %d pods", version, name, replicas), func(t *testing.T) {
					service := startService(t, replicas, behind)
					// Without sessions, a client that listens to one pod does not hear of a change in another. The suite then leaves out checks.
					total := passesAsMuchAs(t, own(t, version), service.url, version, version == "2026-07-28" && replicas > 1)
					if version == "2025-11-25" && total != (score{82, 0}) {
						t.Errorf("got %+v, want 82 passed and 0 failed", total)
					}
					if version == "2025-11-25" && replicas > 1 {
						service.hasSpread(t)
					}
				})
			}
		}
	}
}

// npm writes the registry of the author into the lock file unless told otherwise, and later ignores the user's registry.
func TestTheLockFileOfTheBenchmarkNamesNoRegistry(t *testing.T) {
	content, err := os.ReadFile("bench/npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), `"resolved"`) {
		t.Error("the lock file contains a registry")
	}
}

func TestTheOutputOfTheSuiteIsRead(t *testing.T) {
	total, scenarios := parse("✓ ping: 2 passed, 0 failed\n✗ tools-list: 1 passed, 3 failed\n\nTotal: 3 passed, 3 failed\n")
	if got := fmt.Sprint(total, scenarios); got != "{3 3} map[ping:{2 0} tools-list:{1 3}]" {
		t.Errorf("got %s", got)
	}
}
