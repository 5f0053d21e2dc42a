// Package process runs the process of a stdio server: it frames the lines of its standard output, limits them, and leaves nothing behind when the
// process ends.
package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says how to run a server.
type Config struct {
	// Command is the command and its arguments.
	Command []string
	// MaxLine is the number of bytes that a line of the standard output may have.
	MaxLine int
	// Grace is how long a process may take to end after its input was closed, and again after SIGTERM.
	Grace time.Duration
	// SendTimeout is how long the process may take to read a message.
	SendTimeout time.Duration
	// Stderr receives the name of the process and each line of its standard error, cut to MaxLogLine bytes. It must not keep the line.
	Stderr func(name string, line []byte)
	// TooLong is called for each line of the standard output that is longer than MaxLine, with the beginning and the end of the line. It returns the line
	// that takes its place; nil if there is none. It must not block.
	TooLong func(head, tail []byte) (instead []byte)
}

// MaxLogLine is the number of bytes of a line of the standard error that are logged.
const MaxLogLine = 4096

// Process is a running server.
type Process struct {
	config Config
	cmd    *exec.Cmd
	marker string
	name   atomic.Pointer[string]
	pidfd  int
	stdin  *os.File
	stdout *os.File
	reader *bufio.Reader
	// isRead is true if Next was called, or if Stop reads the rest of the output.
	isRead atomic.Bool

	sending sync.Mutex
	done    chan struct{}
	stop    sync.Once
	stopped chan struct{} // closed when Stop was called
	err     error         // readable when done is closed
}

// ErrEnded is the error of Send after the process has ended.
var ErrEnded = errors.New("the server has ended")

// Start starts a server in a process group of its own. The caller must call Next until it returns nil, or must not call Next
// and call Stop.
func Start(config Config) (*Process, error) {
	p := &Process{
		config: config, marker: newMarker(), pidfd: -1, done: make(chan struct{}), stopped: make(chan struct{}),
	}
	p.SetName("")
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("creating a pipe: %w", err)
	}
	defer func() { _ = in.Close() }()
	stdout, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating a pipe: %w", err), stdin.Close())
	}
	defer func() { _ = out.Close() }()
	stderr, log, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating a pipe: %w", err), stdin.Close(), stdout.Close())
	}
	defer func() { _ = log.Close() }()
	p.stdin = stdin
	p.cmd = exec.Command(config.Command[0], config.Command[1:]...) //nolint:gosec,noctx // the command of the server, from the pod template; Stop ends it
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, log
	p.cmd.Env = append(os.Environ(), markerVariable+"="+p.marker)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &p.pidfd}
	if err := start(p.cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %q: %w", config.Command[0], err), stdin.Close(), stdout.Close(), stderr.Close())
	}
	p.stdout, p.reader = stdout, bufio.NewReaderSize(stdout, 4096)
	go p.readLog(stderr)
	go func() {
		waitForEnd(p.pidfd)
		p.err = wait(p.cmd)
		// What the server has started must not outlive it, and must not keep its output open.
		killGroup(p.cmd.Process.Pid, syscall.SIGKILL)
		killMarked(p.marker)
		_ = stdin.Close()
		close(p.done)
		// A process that has left the group and the environment could still hold the output open.
		_ = stdout.SetReadDeadline(time.Now().Add(config.Grace))
		_ = stderr.SetReadDeadline(time.Now().Add(config.Grace))
	}()
	return p, nil
}

// Send writes a message as a line to the standard input. It fails if the process has ended, or does not read the line within SendTimeout; the
// process is then stopped, because its input is incomplete.
func (p *Process) Send(message []byte) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	select {
	case <-p.done:
		return ErrEnded
	case <-p.stopped:
		return ErrEnded
	default:
	}
	if err := p.stdin.SetWriteDeadline(time.Now().Add(p.config.SendTimeout)); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	line := make([]byte, 0, len(message)+1)
	if _, err := p.stdin.Write(append(append(line, message...), '\n')); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			go p.Stop()
			return fmt.Errorf("the server does not read its input: %w", err)
		}
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}

// Next returns the next line of the standard output, without its line break, and nil at the end. It must not be called by two goroutines at the same
// time. Calling it slowly slows the server down.
func (p *Process) Next() []byte {
	p.isRead.Store(true)
	return p.next()
}

func (p *Process) next() []byte {
	for {
		line, long, err := readLine(p.reader, p.config.MaxLine)
		if long != nil {
			line = p.config.TooLong(long.head, long.tail)
		}
		if len(line) > 0 {
			return line
		}
		if err != nil {
			_ = p.stdout.Close()
			return nil
		}
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the process has ended; nil if it has ended without an error. It may be called when Done is closed.
func (p *Process) Err() error { return p.err }

// SetName sets the name that Stderr receives.
func (p *Process) SetName(name string) { p.name.Store(&name) }

// Pid returns the id of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Stop ends the process: it closes the standard input, then sends SIGTERM, then SIGKILL, to the whole process group. It returns when the process has
// ended.
func (p *Process) Stop() {
	p.stop.Do(func() {
		close(p.stopped)
		if p.isRead.CompareAndSwap(false, true) { // nobody reads the output: it is read so that the process can end
			go func() {
				for p.next() != nil { // it is dropped
				}
			}()
		}
	})
	_ = p.stdin.SetWriteDeadline(time.Now()) // ends a Send
	p.sending.Lock()
	_ = p.stdin.Close()
	p.sending.Unlock()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if p.endsWithin(p.config.Grace) {
			return
		}
		killGroup(p.Pid(), signal)
	}
	<-p.done
}

func (p *Process) endsWithin(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Process) readLog(stderr *os.File) {
	defer func() { _ = stderr.Close() }()
	reader := bufio.NewReaderSize(stderr, MaxLogLine)
	for {
		line, isPrefix, err := reader.ReadLine()
		if err != nil {
			return
		}
		p.config.Stderr(*p.name.Load(), line)
		for isPrefix && err == nil { // the rest of a long line
			_, isPrefix, err = reader.ReadLine()
		}
	}
}

// keptBytes is how much of the beginning and of the end of a long line is kept.
const keptBytes = 1024

// longLine is what is kept of a long line.
type longLine struct{ head, tail []byte }

// add adds a part of the line to the end that is kept.
func (l *longLine) add(part []byte) {
	l.tail = append(l.tail, part...)
	l.tail = append(l.tail[:0], l.tail[max(0, len(l.tail)-keptBytes):]...)
}

// newLongLine returns what is kept of the beginning of a long line.
func newLongLine(begin []byte) *longLine {
	l := &longLine{head: bytes.Clone(begin[:min(len(begin), keptBytes)])}
	l.add(begin)
	return l
}

// readLine reads a line. The line may end with the file. If it has more than most bytes, it is skipped, and long is what is kept of it.
func readLine(reader *bufio.Reader, most int) (line []byte, long *longLine, err error) {
	for {
		part, err := reader.ReadSlice('\n')
		switch {
		case long != nil:
			long.add(part)
		case len(line)+len(part) > most+2: // the line break may have two characters
			line, long = nil, newLongLine(append(line, part...))
		default:
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("reading a line: %w", err)
		}
		if line = trimLineBreak(line); len(line) > most {
			line, long = nil, newLongLine(line)
		}
		if long != nil {
			long.tail = trimLineBreak(long.tail)
		}
		return line, long, err
	}
}

func trimLineBreak(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}
