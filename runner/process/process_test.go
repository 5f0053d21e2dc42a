package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mcpserver-operator/runner/waittest"
)

// server returns a configuration that runs a shell script.
func server(script string) Config {
	return Config{
		Command: []string{"/bin/sh", "-c", script}, MaxLine: 100, Grace: 200 * time.Millisecond, SendTimeout: 5 * time.Second,
		Stderr: func(string, []byte) {}, TooLong: func(_, _ []byte) []byte { return nil },
	}
}

func run(t *testing.T, config Config) *Process {
	t.Helper()
	p, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// nextLine returns the next line of a server, or fails after a while.
func nextLine(t *testing.T, p *Process) string {
	t.Helper()
	line := make(chan []byte, 1)
	go func() { line <- p.Next() }()
	select {
	case line := <-line:
		if line == nil {
			return "end"
		}
		return string(line)
	case <-time.After(10 * time.Second):
		t.Fatal("no line")
		return ""
	}
}

func isGone(pid int) bool { return syscall.Kill(pid, 0) != nil }

func TestLinesGoInAndOut(t *testing.T) {
	p := run(t, server("cat"))
	for _, line := range []string{"one", `{"two": 2}`} {
		if err := p.Send([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if got := nextLine(t, p); got != line {
			t.Errorf("got %q, want %q", got, line)
		}
	}
}

func TestLongLinesAreSkippedAndTheOthersAreNot(t *testing.T) {
	var skipped atomic.Int32
	config := server("head -c 101 /dev/zero | tr '\\0' a; echo; head -c 100 /dev/zero | tr '\\0' b; echo; head -c 20000 /dev/zero | tr '\\0' c; echo; echo d; printf e")
	config.TooLong = func(_, _ []byte) []byte { skipped.Add(1); return nil }
	p := run(t, config)
	got := []string{nextLine(t, p), nextLine(t, p), nextLine(t, p), nextLine(t, p)}
	if want := []string{strings.Repeat("b", 100), "d", "e", "end"}; !slices.Equal(got, want) || skipped.Load() != 2 {
		t.Errorf("got %q, and %d skipped", got, skipped.Load())
	}
}

func TestTheStandardErrorIsLoggedInBoundedLines(t *testing.T) {
	lines := make(chan string, 10)
	config := server("echo first >&2; head -c 10000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2")
	config.Stderr = func(_ string, line []byte) { lines <- string(line) }
	run(t, config)
	if got := []string{<-lines, <-lines, <-lines}; got[0] != "first" || len(got[1]) > MaxLogLine || got[2] != "last" {
		t.Errorf("got %q", got)
	}
}

func TestAServerThatIgnoresEverythingIsKilledWithItsChildren(t *testing.T) {
	p := run(t, server(`trap "" TERM; (trap "" TERM; echo $$; while :; do sleep 1; done) & while :; do sleep 1; done`))
	nextLine(t, p)
	p.Stop()
	waittest.Eventually(t, "the end of the process group", func() bool { return errors.Is(syscall.Kill(-p.Pid(), 0), syscall.ESRCH) })
}

func TestAChildThatLeavesTheProcessGroupIsKilled(t *testing.T) {
	p := run(t, server(`setsid sh -c 'echo $$; exec sleep 1000' & wait`))
	pid, err := strconv.Atoi(nextLine(t, p))
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	waittest.Eventually(t, "the end of the child", func() bool { return isGone(pid) || isZombie(pid) })
}

// isZombie reports whether a process has ended and was not collected: it belongs to the first process of the machine.
func isZombie(pid int) bool {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, _, is := parseStat(string(content))
	return err == nil && is
}

func TestAServerEndsWhenItsInputIsClosed(t *testing.T) {
	config := server("cat; echo bye")
	config.Grace = time.Hour // it is not killed
	p := run(t, config)
	go p.Stop()
	waittest.Eventually(t, "the end", func() bool { return isClosed(p.Done()) })
	if p.Err() != nil {
		t.Error(p.Err())
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestASendToAServerThatHasEndedFails(t *testing.T) {
	p := run(t, server("exit 3"))
	if got := nextLine(t, p); got != "end" {
		t.Fatal(got)
	}
	<-p.Done()
	if err := p.Send([]byte("a")); !errors.Is(err, ErrEnded) {
		t.Errorf("got %v", err)
	}
	if p.Err() == nil || !strings.Contains(p.Err().Error(), "3") {
		t.Errorf("it ended with %v", p.Err())
	}
}

func TestAServerThatDoesNotReadItsInputIsStopped(t *testing.T) {
	config := server("exec sleep 1000")
	config.SendTimeout = 50 * time.Millisecond
	p := run(t, config)
	line := bytes.Repeat([]byte("a"), 1<<20) // more than a pipe holds
	if err := p.Send(line); err == nil || !strings.Contains(err.Error(), "does not read") {
		t.Errorf("got %v", err)
	}
	waittest.Eventually(t, "the end", func() bool { return isClosed(p.Done()) })
}

func TestACommandThatDoesNotExistIsNamed(t *testing.T) {
	config := server("")
	config.Command = []string{"/no/such/command"}
	if _, err := Start(config); err == nil || !strings.Contains(err.Error(), `starting "/no/such/command"`) {
		t.Errorf("got %v", err)
	}
}

func TestStoppedServersLeaveNoDescriptorsBehind(t *testing.T) {
	count := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	warm := run(t, server("cat")) // the first use creates descriptors of the runtime
	warm.Stop()
	before := count()
	for range 20 {
		p, err := Start(server("yes & yes >&2 & cat"))
		if err != nil {
			t.Fatal(err)
		}
		nextLine(t, p)
		go func() {
			for line := p.Next(); line != nil; {
				line = p.Next()
			}
		}()
		p.Stop()
	}
	waittest.Eventually(t, "the descriptors to be closed", func() bool { return count() <= before })
}

func TestOrphansAreCollected(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reaping := make(chan struct{})
	go func() {
		defer close(reaping)
		Reap(ctx)
	}()
	t.Cleanup(func() { cancel(); <-reaping })
	// The child of the subshell is left to the reaper. It ends while the server runs.
	p := run(t, server(`(sh -c 'echo $$; read line < /proc/self/fd/3' 3</dev/null &) ; cat`))
	pid, err := strconv.Atoi(nextLine(t, p))
	if err != nil {
		t.Fatal(err)
	}
	waittest.Eventually(t, "the collection of the orphan", func() bool { return isGone(pid) })
	p.Stop()
	if p.Err() != nil {
		t.Errorf("the reaper has taken the exit status of the server: %v", p.Err())
	}
}

func TestAStatIsParsed(t *testing.T) {
	for content, want := range map[string]string{
		"7 (a) S 1 7":         "7 1 false",
		"8 (a b) c) Z 1000 8": "8 1000 true",
		"":                    "0 0 false",
		"9 (a":                "0 0 false",
	} {
		pid, parent, zombie := parseStat(content)
		if got := fmt.Sprint(pid, parent, zombie); got != want {
			t.Errorf("%q: got %s, want %s", content, got, want)
		}
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\nccc"), 2)
	f.Fuzz(func(t *testing.T, input []byte, most int) {
		most = max(1, most%64)
		reader := bufio.NewReaderSize(bytes.NewReader(input), 16)
		for {
			line, long, err := readLine(reader, most)
			if len(line) > most || (long != nil && len(line) > 0) || bytes.ContainsRune(line, '\n') {
				t.Fatalf("the line %q, too long: %v", line, long)
			}
			if long != nil && (len(long.head) > keptBytes || len(long.tail) > keptBytes || !bytes.Contains(input, long.head) || !bytes.Contains(input, long.tail)) {
				t.Fatalf("the line %q is kept as %q and %q", input, long.head, long.tail)
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRunningServersNeedNoThreads(t *testing.T) {
	threads := func() int {
		files, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	before := threads()
	for range 30 {
		run(t, server("cat"))
	}
	if after := threads(); after-before > 15 {
		t.Errorf("%d threads before, %d with 30 servers", before, after)
	}
}
