package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// askTimeout is how long a peer may take to answer a question about a session or its load.
	askTimeout = time.Second
	// suspectTimeout is the same for a peer that did not answer a short time ago.
	suspectTimeout = askTimeout / 4
	// suspectAge is how long a peer that did not answer is suspect.
	suspectAge = 3 * time.Second
	// mostAsked is the number of peers that are asked at the same time.
	mostAsked = 256
	// answerBytes is the length of an answer.
	answerBytes = 4 << 10
)

// The states of a session in an answer.
const (
	stateLive   = "live"
	stateEnded  = "ended"
	stateAbsent = "absent"
	// stateClaimed means that the pod is about to recreate the session, and that another pod with a higher weight may still do it instead.
	stateClaimed = "claimed"
)

// load is how much a pod has to do.
type load struct {
	Sessions  int  `json:"sessions"`
	Max       int  `json:"max"`
	Accepting bool `json:"accepting"`
}

// hasRoom reports whether the pod takes another session.
func (l load) hasRoom() bool { return l.Accepting && l.Sessions < l.Max }

// answer is what a peer says of itself and of a session.
type answer struct {
	State string `json:"state,omitempty"`
	load
}

// request sends a request to the management port of a peer. Path begins with /sessions.
func (r *Router) request(ctx context.Context, peer Peer, method, path string) (answer, error) {
	timeout := askTimeout
	if r.suspects.has(peer.Ordinal) {
		timeout = suspectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+peer.Management+path, http.NoBody)
	if err != nil {
		return answer{}, fmt.Errorf("asking pod %d: %w", peer.Ordinal, err)
	}
	response, err := r.asking.RoundTrip(request)
	if err != nil {
		r.members.doubt(peer.Ordinal)
		if errors.Is(err, context.DeadlineExceeded) {
			r.suspects.add(peer.Ordinal)
		}
		return answer{}, fmt.Errorf("asking pod %d: %w", peer.Ordinal, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytes))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer of pod %d: %w", peer.Ordinal, err)
	}
	r.suspects.remove(peer.Ordinal)
	if response.StatusCode == http.StatusNoContent {
		return answer{}, nil
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || response.StatusCode != http.StatusOK || a.Sessions < 0 {
		return answer{}, fmt.Errorf("pod %d has answered with status %d and not as a runner does", peer.Ordinal, response.StatusCode)
	}
	return a, nil
}

// ask asks a peer about a session.
func (r *Router) ask(ctx context.Context, peer Peer, id string) (answer, error) {
	a, err := r.request(ctx, peer, http.MethodGet, "/sessions/"+id)
	if err != nil {
		return answer{}, err
	}
	switch a.State {
	case stateLive, stateEnded, stateAbsent, stateClaimed:
		return a, nil
	default:
		return answer{}, fmt.Errorf("pod %d has answered with the unknown state %q", peer.Ordinal, a.State)
	}
}

// reply is the answer of a peer, or why there is none.
type reply struct {
	peer Peer
	answer
	err error
}

// askAll asks all peers about a session, in parallel, and stops at the first one that has it or says that it has ended.
func (r *Router) askAll(ctx context.Context, id string) []reply {
	return each(ctx, r.members.all(ctx), func(ctx context.Context, peer Peer) (answer, error) { return r.ask(ctx, peer, id) },
		func(a answer) bool { return a.State == stateLive || a.State == stateEnded })
}

// each asks peers in parallel, for at most askTimeout. It returns the replies. If a reply is decisive, it is the only one.
func each(ctx context.Context, peers []Peer, ask func(context.Context, Peer) (answer, error), isDecisive func(answer) bool) []reply {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	incoming := make(chan reply, len(peers))
	places := make(chan struct{}, mostAsked)
	for _, peer := range peers {
		go func() {
			select {
			case places <- struct{}{}:
				a, err := ask(ctx, peer)
				<-places
				incoming <- reply{peer, a, err}
			case <-ctx.Done():
				incoming <- reply{peer, answer{}, context.Cause(ctx)}
			}
		}()
	}
	replies := make([]reply, 0, len(peers))
	for range peers {
		one := <-incoming
		if one.err == nil && isDecisive(one.answer) {
			return []reply{one}
		}
		replies = append(replies, one)
	}
	return replies
}
