package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mcpserver-operator/runner/session"
)

// TestStorm lets random clients use the pods of a StatefulSet while these join, drain, roll out and are killed. Clients and events of a step are concurrent. Each
// answer must be one that the model allows, see storm_sessions_test.go. After each step, each session must be where the model expects it, and at the end
// nothing may be left behind.
//
//	go test ./runner -run TestStorm -rapid.checks=2000    # the long run
//	go test ./runner -run TestStorm -rapid.seed=SEED      # replay a failure; the order of concurrent requests may differ
func TestStorm(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		before := stormResources(t)
		w := newStorm(t, r)
		for range rapid.IntRange(2, 4).Draw(r, "steps") {
			w.step(r)
		}
		w.close()
		deadline := time.Now().Add(20 * time.Second)
		for {
			after := stormResources(t)
			if after.isWithin(before) {
				return
			}
			if time.Now().After(deadline) {
				r.Fatalf("left behind: before %+v, after %+v\n%s", before, after, w.story())
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// resources are what a sequence must not leave behind.
type resources struct{ processes, goroutines, descriptors int }

func stormResources(t *testing.T) resources {
	return resources{len(children(t)), runtime.NumGoroutine(), countDescriptors(t)}
}

func (r resources) isWithin(before resources) bool {
	return r.processes <= before.processes && r.goroutines <= before.goroutines && r.descriptors <= before.descriptors
}

// storm is a StatefulSet of pods, the clients, and the model.
type storm struct {
	t        *testing.T
	isEnd    bool // a session ends with its pod
	isHTTP   bool // the servers are HTTP servers
	behavior string
	spare    int
	set      *podSet
	http     *http.Client
	pods     map[uint16]*pod // that clients may reach
	opened   int
	sessions []*stormSession
	streams  []*stormStream
	lost     int // sessions that may have been opened although their clients do not know it

	mutex    sync.Mutex
	history  []string
	problems []string
}

func newStorm(t *testing.T, r *rapid.T) *storm {
	w := &storm{
		t: t, set: &podSet{}, pods: map[uint16]*pod{},
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, // each request may reach another pod
	}
	w.isHTTP = rapid.IntRange(0, 2).Draw(r, "HTTP") == 0
	w.isEnd = rapid.IntRange(0, 3).Draw(r, "End") == 0
	w.spare = rapid.IntRange(0, 1).Draw(r, "spare processes")
	if w.behavior = rapid.SampledFrom([]string{"modern", "modern", ""}).Draw(r, "behavior"); w.isHTTP {
		w.behavior = "modern"
	}
	for ordinal := range rapid.Uint16Range(1, 3).Draw(r, "pods") {
		w.join(ordinal)
	}
	return w
}

func (w *storm) close() {
	for _, one := range w.streams {
		one.leave()
		<-one.ended
	}
	var closing sync.WaitGroup
	for _, p := range w.pods {
		closing.Go(p.close)
	}
	closing.Wait()
	w.http.CloseIdleConnections()
}

// note adds a line to the history.
func (w *storm) note(format string, values ...any) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.history = append(w.history, fmt.Sprintf(format, values...))
}

// fail notes what the model does not allow. The step fails at its end.
func (w *storm) fail(format string, values ...any) {
	w.note("NOT ALLOWED: "+format, values...)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.problems = append(w.problems, fmt.Sprintf(format, values...))
}

func (w *storm) story() string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return strings.Join(w.history, "\n")
}

// join starts the pod with an ordinal, and waits until it is ready.
func (w *storm) join(ordinal uint16) {
	flags := []string{
		fmt.Sprintf("--pod=web-%d", ordinal), "--service=web", fmt.Sprintf("--spare-processes=%d", w.spare),
		"--drain-delay=150ms", "--drain-timeout=10s",
	}
	if w.isEnd {
		flags = append(flags, "--on-pod-loss=End")
	}
	var p *pod
	if w.isHTTP {
		server := newStormServer()
		p = newRunnerPod(w.t, w.set, append(flags, "--upstream="+server.URL+"/mcp")...)
		closeRunner := p.close
		p.close = func() { closeRunner(); server.close() }
	} else {
		p = newPod(w.t, w.set, w.behavior, append(flags, "--sse")...)
	}
	p.flush = 200 * time.Millisecond
	for deadline := time.Now().Add(20 * time.Second); p.ready(context.Background()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.fail("pod %d is not ready", ordinal)
			break
		}
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.pods[ordinal] = p
}

// reachable returns the pods that clients may reach, in the order of their ordinals.
func (w *storm) reachable() (all []*pod) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, p := range w.pods {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pod) int { return int(a.config.ordinal) - int(b.config.ordinal) })
	return all
}

// leave lets clients reach a pod no more.
func (w *storm) leave(p *pod) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.pods, p.config.ordinal)
}

// kill ends a pod without a warning: its connections break, and its processes end. DNS may still have it for a while.
func (w *storm) kill(p *pod, lingers time.Duration) {
	w.note("pod %d is killed", p.config.ordinal)
	w.leave(p)
	_ = p.clients.Config.Close()
	_ = p.management.Config.Close()
	p.close()
	time.Sleep(lingers)
	w.set.remove(p)
}

// drain ends a pod as Kubernetes does.
func (w *storm) drain(p *pod) {
	w.note("pod %d drains", p.config.ordinal)
	w.leave(p)
	p.drain([]*http.Server{p.clients.Config, p.management.Config})
	_ = p.clients.Config.Close() // the process ends: streams that it forwards break
	p.close()
	w.set.remove(p)
	w.note("pod %d has drained", p.config.ordinal)
}

// eventKind is what happens to the pods during a step.
type eventKind string

const (
	nothing  eventKind = "nothing"
	scaleOut eventKind = "scale out"
	scaleIn  eventKind = "scale in"
	killing  eventKind = "kill"
	rollout  eventKind = "rollout"
)

// mostPods is the highest scale of the storm.
const mostPods = 4

// step lets clients act while an event happens, and then checks all sessions.
func (w *storm) step(r *rapid.T) {
	pods := w.reachable()
	kinds := []eventKind{nothing}
	if len(pods) < mostPods {
		kinds = append(kinds, scaleOut)
	}
	if len(pods) > 1 {
		kinds = append(kinds, scaleIn, killing, killing, rollout)
	}
	s := &stormStep{storm: w, kind: rapid.SampledFrom(kinds).Draw(r, "event"), pods: pods}
	event := func() {}
	switch s.kind {
	case scaleOut:
		free := uint16(0)
		for w.pods[free] != nil {
			free++
		}
		event = func() { w.note("pod %d joins", free); w.join(free) }
	case scaleIn:
		s.victims = pods[len(pods)-1:]
		event = func() { w.drain(s.victims[0]) }
	case killing:
		s.victims = []*pod{pods[rapid.IntRange(0, len(pods)-1).Draw(r, "victim")]}
		lingers := time.Duration(rapid.IntRange(0, 1).Draw(r, "lingers")) * 100 * time.Millisecond
		event = func() { w.kill(s.victims[0], lingers) }
	case rollout: // the highest ordinal first; each pod is replaced before the next one ends
		s.victims = pods
		event = func() {
			for _, p := range slices.Backward(pods) {
				w.drain(p)
				w.join(p.config.ordinal)
			}
		}
	case nothing:
	}
	w.note("%s of %v, %d pods", s.kind, ordinals(s.victims), len(pods))
	s.begin()
	acts := s.draw(r)
	var doing sync.WaitGroup
	doing.Go(event)
	for _, act := range acts {
		doing.Go(func() {
			time.Sleep(act.after)
			act.do()
		})
	}
	doing.Wait()
	s.rest()
	if len(w.problems) > 0 {
		w.close()
		logs := ""
		for _, p := range append(w.reachable(), s.victims...) {
			logs += fmt.Sprintf("pod %d:\n%s", p.config.ordinal, p.log.String())
		}
		r.Fatalf("%s\n\n%s\n\n%s", strings.Join(w.problems, "\n"), w.story(), logs)
	}
}

func ordinals(pods []*pod) (all []uint16) {
	for _, p := range pods {
		all = append(all, p.config.ordinal)
	}
	return all
}

// places returns the pods that have a session.
func (w *storm) places(id string) (places []*pod) {
	for _, p := range w.reachable() {
		if p.server.State(id) == session.Live {
			places = append(places, p)
		}
	}
	return places
}

// outcome is the answer to a request.
type outcome struct {
	status     int
	header     http.Header
	isStream   bool
	messages   []string
	err        error
	retryAfter string
}

// last returns the last message.
func (o outcome) last() string {
	if len(o.messages) == 0 {
		return ""
	}
	return o.messages[len(o.messages)-1]
}

func (o outcome) String() string {
	return fmt.Sprintf("status %d, %.200q, %v", o.status, o.last(), o.err)
}

// requestTimeout is far more than any request takes: nothing may hang.
const requestTimeout = 30 * time.Second

// send sends a request and reads the answer to its end.
func (w *storm) send(via *pod, method, body string, headers ...string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	a, err := w.begin(ctx, via, method, body, headers...)
	if err != nil {
		return outcome{err: err}
	}
	defer a.body.Close()
	o := outcome{status: a.status, header: a.header, isStream: a.isStream(), retryAfter: a.header.Get("Retry-After")}
	if !o.isStream {
		content, err := io.ReadAll(a.body)
		o.messages, o.err = []string{string(content)}, err
		return o
	}
	for {
		event, err := a.scanner.Next()
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			o.err = err
			return o
		}
		if len(event.Data) > 0 {
			o.messages = append(o.messages, string(event.Data))
		}
	}
}
