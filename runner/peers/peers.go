// Package peers routes the requests of a session to the pod that has the session. It finds the other pods of the StatefulSet by DNS, asks them which
// sessions they have, and decides which pod takes a session whose pod is lost. It keeps no state that another pod must have.
package peers

import (
	"context"
	"net/http"
	"time"

	"mcpserver-operator/runner/session"
)

// Local is what the router needs of this pod.
type Local interface {
	// State returns what this pod knows of a session.
	State(id string) session.State
	// Take starts a session that has lost its pod. Concurrent calls for one session start it once.
	Take(ctx context.Context, record session.Record) error
	// End ends a session, if the pod has it, and remembers that it has ended.
	End(id string)
	// Load returns the number of sessions, the greatest number, and whether the pod takes sessions: it does not while it stops.
	Load() (open, most int, isAccepting bool)
}

// Peer is a pod with a runner.
type Peer struct {
	// Ordinal is the ordinal of the pod in its StatefulSet.
	Ordinal uint16
	// Address is the host and the port at which clients call.
	Address string
	// Management is the host and the port at which the runners call each other.
	Management string
}

// Resolver finds the pods of the StatefulSet, including this pod and pods that are not ready.
type Resolver interface {
	Peers(ctx context.Context) ([]Peer, error)
}

// Config says how to route.
type Config struct {
	// Ordinal is the ordinal of this pod.
	Ordinal  uint16
	Resolver Resolver
	Local    Local
	// Handler serves the requests of this pod's sessions, and requests without sessions.
	Handler http.Handler
	// Recreate says whether a session that has lost its pod is started again.
	Recreate bool
	// MaxBody is the number of bytes of a request that are kept, so that it can be sent to another pod. Longer requests are passed to Handler,
	// which refuses them.
	MaxBody int64
	// Forwarded counts forwarded requests by their result; it may be nil.
	Forwarded func(result string)
}

// Times of the requests between pods. A call itself has no limit.
const (
	askTimeout  = time.Second
	dialTimeout = time.Second
	// A list of pods and their loads is used for this time.
	listTime = time.Second
	// A pod that could not be reached is not asked again for this time.
	downTime = 2 * time.Second
	// takeTimeout is how long a session may take to start again.
	takeTimeout = 2 * time.Minute
)

// maxPeers is the number of pods that are used at most: DNS could say anything.
const maxPeers = 1000
