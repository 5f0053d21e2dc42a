package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// Outcome is how a request has ended.
type Outcome string

// The outcomes of requests.
const (
	// Answered means that the server has answered without an error.
	Answered Outcome = "ok"
	// Failed means that the answer is an error, of the server, of a tool or of the runner.
	Failed Outcome = "error"
	// Cancelled means that the stream has ended without a response, because the client has cancelled the request.
	Cancelled Outcome = "cancelled"
	// Disconnected means that the client has left before the response.
	Disconnected Outcome = "disconnected"
)

// Request is what the runner tells of one HTTP request. A nil Request ignores what it is told.
type Request struct {
	session, method, name string
	outcome               Outcome
	code                  string
}

type requestKey struct{}

// RequestOf returns the Request of a context; nil if it has none.
func RequestOf(ctx context.Context) *Request {
	request, _ := ctx.Value(requestKey{}).(*Request)
	return request
}

// SetSession tells the session id. Only its short form is logged.
func (r *Request) SetSession(id string) {
	if r != nil {
		r.session = session.Short(id)
	}
}

// SetMessage tells the message of the client: its method, and the tool, prompt or resource that it names. Nothing else of it is logged.
func (r *Request) SetMessage(message rpc.Message) {
	if r == nil {
		return
	}
	r.method = message.Method
	for _, member := range []string{"name", "uri"} {
		if name, found := rpc.GetString(message.Params, member); found {
			r.name = shorten(name)
			return
		}
	}
}

// mostName is the number of bytes of a tool's name that are logged.
const mostName = 200

func shorten(text string) string { return text[:min(len(text), mostName)] }

// SetAnswer tells the response.
func (r *Request) SetAnswer(response []byte) {
	if r == nil {
		return
	}
	r.outcome = Answered
	if code := rpc.Get(response, "error", "code"); code != nil {
		r.outcome, r.code = Failed, string(code)
	} else if string(rpc.Get(response, "result", "isError")) == "true" {
		r.outcome = Failed
	}
}

// SetOutcome tells how the request has ended.
func (r *Request) SetOutcome(outcome Outcome) {
	if r != nil {
		r.outcome = outcome
	}
}

// Handler counts the requests of a handler, and writes one line for each request to audit if audit is not nil.
func (s *Set) Handler(next http.Handler, audit *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		request := &Request{}
		recorder := &statusRecorder{ResponseWriter: w}
		next.ServeHTTP(recorder, r.WithContext(context.WithValue(r.Context(), requestKey{}, request)))
		duration := time.Since(begin)
		if recorder.status == 0 {
			recorder.status = http.StatusOK
		}
		if request.outcome == "" && recorder.status >= http.StatusBadRequest {
			request.outcome = Failed
		}
		method := Method(request.method)
		s.Requests.WithLabelValues(httpMethod(r.Method), method, strconv.Itoa(recorder.status)).Inc()
		s.Duration.WithLabelValues(method).Observe(duration.Seconds())
		if audit == nil {
			return
		}
		attributes := []any{"http", httpMethod(r.Method), "status", recorder.status, "duration_ms", float64(duration.Microseconds()) / 1000}
		for _, attribute := range [][2]string{
			{"session", request.session}, {"method", shorten(request.method)}, {"name", request.name}, {"outcome", string(request.outcome)}, {"error", request.code},
		} {
			if attribute[1] != "" {
				attributes = append(attributes, attribute[0], attribute[1])
			}
		}
		audit.Info("request", attributes...)
	})
}

func httpMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

// statusRecorder remembers the status of a response.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
