package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Request is a request to the API server, from its audit log.
type Request struct {
	User        string
	Verb        string
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	UserAgent   string
	// Code is the HTTP status code of the response.
	Code int
	// Denied is true if the user lacks a permission. It is false for requests that an admission plugin rejects, although their code
	// is also 403.
	Denied bool
	// Time is when the server received the request. Done is when it responded.
	Time, Done time.Time
	// Version, Generation and Replicas describe a StatefulSet, or its scale, after a write. They are empty for other requests.
	// A scale has no generation.
	Version    string
	Generation int64
	Replicas   *int32
}

// String formats the request in the style of kubectl auth can-i.
func (r Request) String() string {
	resource := r.Resource
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	return fmt.Sprintf("%s %s %s/%s: %d", r.Verb, resource, r.Namespace, r.Name, r.Code)
}

// IsWrite reports whether the request could change an object. It ignores Leases, and the reviews that the operator creates to
// authorize scrapes of its metrics.
func (r Request) IsWrite() bool {
	if slices.Contains([]string{"authentication.k8s.io", "authorization.k8s.io", "coordination.k8s.io"}, r.Group) {
		return false
	}
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.Verb)
}

// ErrNoAuditLog is returned for an existing cluster, because its audit log is not accessible.
var ErrNoAuditLog = errors.New("the audit log is only available for a control plane that the suite started")

// AuditMark returns the offset of the end of the last complete line of the audit log. The API server logs a request before it
// responds.
func (c *Cluster) AuditMark() (int64, error) {
	if c.controlPlane == nil {
		return 0, ErrNoAuditLog
	}
	file, err := os.Open(c.controlPlane.AuditLog)
	if err != nil {
		return 0, fmt.Errorf("opening the audit log: %w", err)
	}
	defer file.Close()
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("reading the audit log: %w", err)
	}
	chunk := make([]byte, 64<<10)
	for end > 0 {
		start := max(0, end-int64(len(chunk)))
		read := chunk[:end-start]
		if _, err := file.ReadAt(read, start); err != nil {
			return 0, fmt.Errorf("reading the audit log: %w", err)
		}
		if i := bytes.LastIndexByte(read, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// RequestsSince returns the requests of a user after a mark in the audit log. If user is empty, it returns those of all users.
func (c *Cluster) RequestsSince(mark int64, user string) ([]Request, error) {
	if c.controlPlane == nil {
		return nil, ErrNoAuditLog
	}
	file, err := os.Open(c.controlPlane.AuditLog)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(mark, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var requests []Request
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // the server is still writing this line
		}
		var event struct {
			Verb      string
			User      struct{ Username string }
			UserAgent string
			ObjectRef struct{ APIGroup, Resource, Subresource, Namespace, Name string }

			ResponseStatus struct{ Code int }
			ResponseObject struct {
				Metadata struct {
					ResourceVersion string
					Generation      int64
				}
				Spec struct{ Replicas *int32 }
			}
			RequestReceivedTimestamp time.Time
			StageTimestamp           time.Time
			Annotations              map[string]string
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("parsing the audit log: %w", err)
		}
		if user != "" && event.User.Username != user {
			continue
		}
		requests = append(requests, Request{
			User: event.User.Username, Verb: event.Verb,
			Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource, Subresource: event.ObjectRef.Subresource,
			Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name,
			UserAgent: event.UserAgent, Code: event.ResponseStatus.Code,
			Denied: event.Annotations["authorization.k8s.io/decision"] == "forbid",
			Time:   event.RequestReceivedTimestamp, Done: event.StageTimestamp,
			Version:    event.ResponseObject.Metadata.ResourceVersion,
			Generation: event.ResponseObject.Metadata.Generation, Replicas: event.ResponseObject.Spec.Replicas,
		})
	}
	return requests, nil
}
