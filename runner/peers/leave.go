package peers

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// leavingAge is how long a pod that has said that it stops is taken for one, if it does not start again before.
const leavingAge = 2 * time.Minute

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
