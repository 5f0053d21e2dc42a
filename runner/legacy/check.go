package legacy

import (
	"errors"
	"net/http"

	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/rpc"
)

// CheckOrigin refuses a request of a web page that may not call.
func CheckOrigin(w http.ResponseWriter, r *http.Request, l limits.Limits) (ok bool) {
	if l.AllowsOrigin(r) {
		return true
	}
	Refuse(w, http.StatusForbidden, nil, rpc.InvalidRequest, "requests from this origin are not allowed", nil)
	return false
}

// ReadBody reads the body of a request, or refuses the request.
func ReadBody(w http.ResponseWriter, r *http.Request, l limits.Limits) (body []byte, ok bool) {
	body, err := l.ReadBody(w, r)
	switch {
	case errors.Is(err, limits.ErrBodyTooLarge):
		Refuse(w, http.StatusRequestEntityTooLarge, nil, rpc.InvalidRequest, err.Error(), nil)
	case err != nil:
		Refuse(w, http.StatusRequestTimeout, nil, rpc.InvalidRequest, err.Error(), nil)
	}
	return body, err == nil
}
