package peers

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// leavingAge is how long a pod that has said that it stops is taken for one, if it does not start again before.
const leavingAge = 2 * time.Minute

// leaving are the pods that stop. A request goes to such a pod only if that pod says that it has the session: it could close the connection just then.
type leaving struct {
	mutex sync.Mutex
	since map[uint16]time.Time
}

func (l *leaving) add(ordinal uint16) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.since[ordinal] = time.Now()
}

func (l *leaving) remove(ordinal uint16) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	delete(l.since, ordinal)
}

func (l *leaving) has(ordinal uint16) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	since, isLeaving := l.since[ordinal]
	return isLeaving && time.Since(since) < leavingAge
}

// Leave tells the other pods that this pod stops. It waits for their answers for at most a second.
func (r *Router) Leave(ctx context.Context) {
	path := "/sessions/leaving?by=" + strconv.Itoa(int(r.config.Ordinal))
	each(ctx, r.members.all(ctx), func(ctx context.Context, peer Peer) (answer, error) {
		return r.request(ctx, peer, http.MethodPost, path)
	},
		func(answer) bool { return false })
}

// hearLeaving serves a pod that stops.
func (r *Router) hearLeaving(w http.ResponseWriter, request *http.Request) {
	ordinal, err := strconv.ParseUint(request.URL.Query().Get("by"), 10, 16)
	if err != nil {
		http.Error(w, "the parameter by is no ordinal", http.StatusBadRequest)
		return
	}
	r.leaving.add(uint16(ordinal))
	r.balance.exclude(uint16(ordinal))
	w.WriteHeader(http.StatusNoContent)
}
