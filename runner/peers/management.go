package peers

import (
	"encoding/json"
	"net/http"

	"mcpserver-operator/runner/session"
)

// Management serves the runners of the other pods: what they ask and tell about sessions. It serves the paths /sessions and /sessions/. It must not be
// reachable for clients.
//
//	GET    /sessions             the load of this pod
//	GET    /sessions/ended       the ids of the sessions that have ended; by=ORDINAL names the pod that asks
//	POST   /sessions/leaving     the pod by=ORDINAL stops
//	GET    /sessions/{id}        the load, and what this pod knows of a session: live, ended, absent or claimed
//	DELETE /sessions/{id}        the session has ended
//	POST   /sessions/{id}/moved  another pod has the session
func (r *Router) Management() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, _ *http.Request) { write(w, answer{load: r.load()}) })
	mux.HandleFunc("GET /sessions/ended", r.tellWhatHasEnded)
	mux.HandleFunc("POST /sessions/leaving", r.hearLeaving)
	mux.HandleFunc("GET /sessions/{id}", ofSession(func(w http.ResponseWriter, id string) { write(w, answer{r.stateOf(id), r.load()}) }))
	mux.HandleFunc("DELETE /sessions/{id}", ofSession(func(w http.ResponseWriter, id string) {
		r.end(id)
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("POST /sessions/{id}/moved", ofSession(func(w http.ResponseWriter, id string) {
		r.config.Local.Drop(id)
		w.WriteHeader(http.StatusNoContent)
	}))
	return mux
}

// ofSession checks the id of a session.
func ofSession(serve func(w http.ResponseWriter, id string)) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		id := request.PathValue("id")
		if _, err := session.Parse(id); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		serve(w, id)
	}
}

func write(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // else the peer is gone
}

// stateOf returns what this pod knows of a session.
func (r *Router) stateOf(id string) string {
	// The claim is read first: when it is gone, the session is live.
	phase := r.claims.phaseOf(id)
	switch r.config.Local.State(id) {
	case session.Live:
		return stateLive
	case session.Ended:
		return stateEnded
	case session.Absent:
	}
	switch phase {
	case committed:
		return stateLive
	case claimed:
		return stateClaimed
	case unclaimed:
	}
	return stateAbsent
}
