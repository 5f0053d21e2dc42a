package upstream

import (
	"net/http"
	"time"
)

// limitWrites limits how long a client may take to receive a piece of a response.
func limitWrites(w http.ResponseWriter, timeout time.Duration) http.ResponseWriter {
	return &limitedWriter{ResponseWriter: w, controller: http.NewResponseController(w), timeout: timeout}
}

type limitedWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
	timeout    time.Duration
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	_ = l.controller.SetWriteDeadline(time.Now().Add(l.timeout)) // not supported by recorders in tests
	return l.ResponseWriter.Write(p)                             //nolint:wrapcheck // a writer
}

// Unwrap lets http.ResponseController flush the response.
func (l *limitedWriter) Unwrap() http.ResponseWriter { return l.ResponseWriter }
