package peers

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestWhatTheRunnersTellEachOther has what a pod sends to a pod with another version of the runner. It may grow; what is here must stay.
func TestWhatTheRunnersTellEachOther(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].router.config.Namespace = "ns"
	id := s.pods[1].open()
	var forwarded http.Header
	s.pods[1].setDuring(func(_ http.ResponseWriter, r *http.Request) { forwarded = r.Header.Clone() })
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, "x"); got.status != http.StatusOK {
		t.Fatalf("got %+v", got)
	}
	if from, to := forwarded.Get("Mcp-Runner-Forwarded"), forwarded.Get("Mcp-Runner-Target"); from != "0" || to != "web-1" {
		t.Errorf("a request is forwarded from %q to %q", from, to)
	}
	if namespace := forwarded.Get("Mcp-Runner-Namespace"); namespace != "ns" {
		t.Errorf("the namespace is %q", namespace)
	}
	if hop := s.pods[0].router.hop(true); hop != "0 take" {
		t.Errorf("a pod is asked to recreate a session with %q", hop)
	}
	s.pods[1].setDuring(nil)
	if got := s.pods[1].send(t.Context(), http.MethodPost, id, "x", "Mcp-Runner-Forwarded", "0"); got.header.Get("Mcp-Runner-Pod") != "web-1" {
		t.Errorf("the answer has the headers %v", got.header)
	}
	absent := s.pods[0].send(t.Context(), http.MethodPost, id, "x", "Mcp-Runner-Forwarded", "1", "Mcp-Runner-Target", "web-0")
	if absent.status != http.StatusMisdirectedRequest || absent.header.Get("Mcp-Runner-Absent") != "true" {
		t.Errorf("a pod that does not have the session has answered with %+v", absent)
	}
	for _, row := range []struct{ method, path, want string }{
		{http.MethodGet, "/sessions", `{"sessions":1,"max":1000,"accepting":true}`},
		{http.MethodGet, "/sessions/" + id, `{"state":"live","sessions":1,"max":1000,"accepting":true}`},
		{http.MethodPost, "/sessions/" + id + "/moved", ""},
		{http.MethodGet, "/sessions/" + id, `{"state":"absent","sessions":0,"max":1000,"accepting":true}`},
		{http.MethodDelete, "/sessions/" + id, ""},
		{http.MethodGet, "/sessions/" + id, `{"state":"ended","sessions":0,"max":1000,"accepting":true}`},
		{http.MethodGet, "/sessions/ended?by=0", id},
		{http.MethodPost, "/sessions/leaving?by=0", ""},
	} {
		if got := managementOf(t, s.pods[1], row.method, row.path); got != row.want {
			t.Errorf("%s %s: got %s, want %s", row.method, row.path, got, row.want)
		}
	}
}

// TestAPodThatStartsHearsOfTheOthers has the header of an answer. Earlier versions do not send it, see TestAPodOfAnEarlierVersionDoesNotKeepAnotherFromStartingAndStopping.
func TestAPodThatStartsHearsOfTheOthers(t *testing.T) {
	s := newSet(t, 3, true)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.pods[1].manage.URL+"/sessions/ended?by=7", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if pods := response.Header.Get("Mcp-Runner-Pods"); pods != "0,2,7" {
		t.Errorf("the answer has the pods %q", pods)
	}
}

// managementOf returns the answer of the management port of a pod.
func managementOf(t *testing.T, p *pod, method, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.manage.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(textOf(t, request))
}

// TestALaterVersionMayAddWords: a pod of a later version asks this one to recreate a session, and says more than this one knows.
func TestALaterVersionMayAddWords(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].record().ID()
	got := s.pods[0].send(t.Context(), http.MethodPost, id, "x", ForwardedHeader, "1 take later", TargetHeader, "web-0", "Mcp-Runner-Later", "yes")
	if got.status != http.StatusOK || got.text != "pod 0 call 1 of x" {
		t.Errorf("got %+v", got)
	}
}

func textOf(t *testing.T, request *http.Request) string {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
