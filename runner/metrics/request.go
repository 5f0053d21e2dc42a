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
	audit                 *Audit // nil if there is no line
	session, method, name string
	arguments, result     string
	outcome               Outcome
	code                  string
	isForwarded           bool
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

// SetMessage tells the message of the client. Its method is logged, and the tool, prompt or resource that it names; its arguments only if the Audit says
// so.
func (r *Request) SetMessage(message rpc.Message) {
	if r == nil {
		return
	}
	r.method = message.Method
	if r.audit != nil && r.audit.Arguments {
		r.arguments = shorten(string(rpc.Get(message.Params, "arguments")), mostContent)
	}
	for _, member := range []string{"name", "uri"} {
		if name, found := rpc.GetString(message.Params, member); found {
			r.name = shorten(name, mostName)
			return
		}
	}
}

const (
	// mostName is the number of bytes of a tool's name that are logged.
	mostName = 200
	// mostContent is the number of bytes of the arguments, and of the result, that are logged.
	mostContent = 1024
)

func shorten(text string, most int) string { return text[:min(len(text), most)] }

// SetForwarded tells that another pod answers the request. That pod writes the line, unless the answer is cut off.
func (r *Request) SetForwarded() {
	if r != nil {
		r.isForwarded = true
	}
}

// SetAnswer tells the response. Its result is logged only if the Audit says so.
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
	if r.audit != nil && r.audit.Results {
		r.result = shorten(string(rpc.Get(response, "result")), mostContent)
	}
}

// SetOutcome tells how the request has ended.
func (r *Request) SetOutcome(outcome Outcome) {
	if r != nil {
		r.outcome = outcome
	}
}

// Audit says where the line of a request goes, and what it contains.
type Audit struct {
	Log *slog.Logger
	// Arguments is true if the line has the arguments of the request, as text, because a log collector may expect one type for each attribute.
	Arguments bool
	// Results is true if the line has the result of the response, as text.
	Results bool
}

// Handler counts the requests of a handler, and writes one line for each request if audit is not nil.
func (s *Set) Handler(next http.Handler, audit *Audit) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		request := &Request{audit: audit}
		recorder := &statusRecorder{ResponseWriter: w}
		isCutOff := true
		// A proxy panics to cut off an answer whose rest it cannot get or deliver. The request counts nevertheless.
		defer func() {
			if isCutOff {
				request.cutOff(r.Context())
			}
			s.report(r.Method, request, recorder, time.Since(begin))
		}()
		next.ServeHTTP(recorder, r.WithContext(context.WithValue(r.Context(), requestKey{}, request)))
		isCutOff = false
	})
}

// cutOff tells that the answer has ended before its end.
func (r *Request) cutOff(ctx context.Context) {
	r.isForwarded = false
	if r.outcome = Failed; ctx.Err() != nil {
		r.outcome = Disconnected
	}
}

// report counts a request that has ended, and writes its line.
func (s *Set) report(verb string, request *Request, recorder *statusRecorder, duration time.Duration) {
	if recorder.status == 0 {
		recorder.status = http.StatusOK
	}
	if request.outcome == "" && recorder.status >= http.StatusBadRequest {
		request.outcome = Failed
	}
	if request.audit != nil && !request.isForwarded {
		request.write(verb, recorder.status, duration)
	}
	method := Method(request.method)
	s.Requests.WithLabelValues(httpMethod(verb), method, strconv.Itoa(recorder.status)).Inc()
	s.Duration.WithLabelValues(method).Observe(duration.Seconds())
}

// write writes the line of the request.
func (r *Request) write(verb string, status int, duration time.Duration) {
	attributes := []any{"http", httpMethod(verb), "status", status, "duration_ms", float64(duration.Microseconds()) / 1000}
	for _, attribute := range [][2]string{
		{"session", r.session}, {"method", shorten(r.method, mostName)}, {"name", r.name}, {"outcome", string(r.outcome)},
		{"error", r.code}, {"arguments", r.arguments}, {"result", r.result},
	} {
		if attribute[1] != "" {
			attributes = append(attributes, attribute[0], attribute[1])
		}
	}
	r.audit.Log.Info("request", attributes...)
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
