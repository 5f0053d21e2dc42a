package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"mcpserver-operator/runner/session"
)

// answer is what a pod says of a session and of its load.
type answer struct {
	State     string `json:"state"`
	Sessions  int    `json:"sessions"`
	Max       int    `json:"max"`
	Accepting bool   `json:"accepting"`
}

// The values of answer.State.
const (
	live   = "live"
	ended  = "ended"
	absent = "absent"
)

// maxAnswer is the number of bytes of an answer.
const maxAnswer = 1024

// noSession stands for a session id in a question about the load only.
const noSession = "-"

// Management answers the other pods. It is mounted at the management port, which the Service for clients does not have.
func (r *Router) Management() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sessions/{id}", func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.answer(request.PathValue("id"))) // the other pod is gone
	})
	mux.HandleFunc("DELETE /sessions/{id}", func(w http.ResponseWriter, request *http.Request) {
		id := request.PathValue("id")
		if _, err := session.Parse(id); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.config.Local.End(id)
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func (r *Router) answer(id string) answer {
	open, most, isAccepting := r.config.Local.Load()
	state := absent
	if id != noSession {
		switch r.config.Local.State(id) {
		case session.Live:
			state = live
		case session.Ended:
			state = ended
		case session.Absent:
		}
	}
	return answer{State: state, Sessions: open, Max: most, Accepting: isAccepting}
}

// ask asks pods about a session, at the same time. A pod that does not answer is missing in the result.
func (r *Router) ask(ctx context.Context, peers []Peer, id string) map[uint16]answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mutex sync.Mutex
	var asking sync.WaitGroup
	answers := map[uint16]answer{}
	for _, peer := range peers {
		asking.Go(func() {
			one, err := r.askOne(ctx, peer, id)
			if err != nil {
				r.members.isDown(peer.Ordinal)
				return
			}
			mutex.Lock()
			defer mutex.Unlock()
			answers[peer.Ordinal] = one
		})
	}
	asking.Wait()
	return answers
}

func (r *Router) askOne(ctx context.Context, peer Peer, id string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+peer.Management+"/sessions/"+id, nil)
	if err != nil {
		return answer{}, fmt.Errorf("asking pod %d: %w", peer.Ordinal, err)
	}
	response, err := r.transport.RoundTrip(request)
	if err != nil {
		return answer{}, fmt.Errorf("asking pod %d: %w", peer.Ordinal, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("asking pod %d: status %d", peer.Ordinal, response.StatusCode)
	}
	var one answer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&one); err != nil {
		return answer{}, fmt.Errorf("reading the answer of pod %d: %w", peer.Ordinal, err)
	}
	if one.Sessions < 0 || one.Max < 0 {
		return answer{}, errors.New("the answer has negative numbers")
	}
	return one, nil
}

// tellEnded tells the other pods that a session has ended, so that none takes it. A pod that cannot be reached does not know it.
func (r *Router) tellEnded(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	var telling sync.WaitGroup
	for _, peer := range r.members.up(ctx) {
		telling.Go(func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+peer.Management+"/sessions/"+id, nil)
			if err != nil {
				return
			}
			response, err := r.transport.RoundTrip(request)
			if err != nil {
				return
			}
			_ = response.Body.Close()
		})
	}
	telling.Wait()
}
