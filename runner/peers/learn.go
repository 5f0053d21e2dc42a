package peers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mcpserver-operator/runner/session"
)

const (
	// learnTimeout is how long a pod that starts looks for the other pods.
	learnTimeout = 10 * time.Second
	// learnInterval is the time between two attempts.
	learnInterval = 100 * time.Millisecond
	// newcomerAttempts is how often a pod that another pod knows, and that DNS does not list, is asked.
	newcomerAttempts = 20
	// endedTimeout is how long a peer may take to tell which sessions have ended.
	endedTimeout = 5 * time.Second
	// endedBytes is the length of that answer.
	endedBytes = 8 << 20
)

// learn asks the other pods which sessions have ended. In a rollout, each pod is replaced, so nobody would know it otherwise. It also lets the other pods
// know this one before DNS lists it. Of pods that start at the same moment, at least one hears of the other in this way, and asks it: else both
// could recreate the same session.
func (r *Router) learn() {
	defer close(r.learned)
	ctx, cancel := context.WithTimeout(r.ctx, learnTimeout)
	defer cancel()
	peers := r.members.all(ctx)
	for isKnown, _ := r.members.areKnown(); !isKnown && ctx.Err() == nil; isKnown, _ = r.members.areKnown() {
		select {
		case <-time.After(learnInterval):
			peers = r.members.all(ctx)
		case <-ctx.Done():
		}
	}
	left := map[uint16]int{} // attempts to ask each pod
	for _, peer := range peers {
		left[peer.Ordinal] = 1
	}
	for r.learnFromAll(ctx, peers, left) && ctx.Err() == nil {
		select {
		case <-time.After(learnInterval):
			peers = r.members.all(ctx)
		case <-ctx.Done():
		}
	}
}

// learnFromAll asks pods which sessions have ended, as long as attempts are left. It returns true if a pod is to be asked again, or for the first time: this pod
// has heard of it from another one, and may not find it by its name yet.
func (r *Router) learnFromAll(ctx context.Context, peers []Peer, left map[uint16]int) bool {
	errs := make([]error, len(peers))
	var asking sync.WaitGroup
	for i, peer := range peers {
		if _, isKnown := left[peer.Ordinal]; !isKnown {
			left[peer.Ordinal] = newcomerAttempts
		}
		if left[peer.Ordinal] > 0 {
			asking.Go(func() { errs[i] = r.learnFrom(ctx, peer) })
		}
	}
	asking.Wait()
	for i, peer := range peers {
		if errs[i] == nil {
			left[peer.Ordinal] = 0
			continue
		}
		r.config.Log.Debug("a pod does not tell which sessions have ended", "error", errs[i])
		if left[peer.Ordinal]--; left[peer.Ordinal] == 0 {
			r.members.doubt(peer.Ordinal)
		}
	}
	return slices.ContainsFunc(r.members.present(), func(peer Peer) bool {
		attempts, isKnown := left[peer.Ordinal]
		return !isKnown || attempts > 0
	})
}

func (r *Router) learnFrom(ctx context.Context, peer Peer) error {
	ctx, cancel := context.WithTimeout(ctx, endedTimeout)
	defer cancel()
	url := "http://" + peer.Management + "/sessions/ended?by=" + strconv.Itoa(int(r.config.Ordinal))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking pod %d: %w", peer.Ordinal, err)
	}
	response, err := r.asking.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking pod %d: %w", peer.Ordinal, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK { // for example an older runner
		return fmt.Errorf("pod %d has answered with status %d", peer.Ordinal, response.StatusCode)
	}
	for field := range strings.SplitSeq(response.Header.Get(PodsHeader), ",") {
		if ordinal, err := strconv.ParseUint(field, 10, 16); err == nil && uint16(ordinal) != r.config.Ordinal && !r.members.has(uint16(ordinal)) {
			r.members.introduce(uint16(ordinal))
		}
	}
	lines := bufio.NewScanner(io.LimitReader(response.Body, endedBytes))
	for lines.Scan() {
		if _, err := session.Parse(lines.Text()); err != nil {
			return fmt.Errorf("reading the answer of pod %d: %w", peer.Ordinal, err)
		}
		r.end(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the answer of pod %d: %w", peer.Ordinal, err)
	}
	return nil
}

// HasLearned reports whether this pod has asked the other pods which sessions have ended. It is not ready before.
func (r *Router) HasLearned() bool {
	select {
	case <-r.learned:
		return true
	default:
		return false
	}
}

// tellWhatHasEnded serves a pod that learns.
func (r *Router) tellWhatHasEnded(w http.ResponseWriter, request *http.Request) {
	if ordinal, err := strconv.ParseUint(request.URL.Query().Get("by"), 10, 16); err == nil {
		r.leaving.remove(uint16(ordinal))
		r.members.introduce(uint16(ordinal)) // before the list is read: it is told of the sessions that end from now on
	}
	var pods []string
	for _, peer := range r.members.all(request.Context()) {
		pods = append(pods, strconv.Itoa(int(peer.Ordinal)))
	}
	w.Header().Set(PodsHeader, strings.Join(pods, ","))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := bufio.NewWriter(w)
	for _, id := range r.config.Local.Ended() {
		_, _ = out.WriteString(id + "\n") // else the peer is gone
	}
	_ = out.Flush() // else the peer is gone
}
