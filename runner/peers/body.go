package peers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// body is the body of a request, which may be sent to several pods until one accepts it.
type body struct{ content []byte }

var errTooLong = errors.New("the body is too long to be kept")

// read reads the body of a request. It fails with errTooLong if the body has more than most bytes; the request then still has its body.
func read(request *http.Request, most int64) (*body, error) {
	if request.Body == nil || request.Body == http.NoBody {
		return &body{}, nil
	}
	if request.ContentLength > most {
		return nil, errTooLong
	}
	content, err := io.ReadAll(io.LimitReader(request.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if int64(len(content)) > most {
		request.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(content), request.Body), request.Body}
		return nil, errTooLong
	}
	one := &body{content}
	one.rewind(request)
	return one, nil
}

// rewind gives a request the body from its beginning.
func (b *body) rewind(request *http.Request) {
	if b.content == nil {
		return
	}
	request.Body = io.NopCloser(bytes.NewReader(b.content))
	request.ContentLength = int64(len(b.content))
}
