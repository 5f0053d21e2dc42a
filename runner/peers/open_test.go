package peers

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/waittest"
)

func TestNewSessionsGoToLowOrdinalsAndToAllPods(t *testing.T) {
	s := newSet(t, 3, true)
	for range 90 {
		if got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK || got.id == "" {
			t.Fatalf("got %+v", got)
		}
	}
	var open []int
	for ordinal := range uint16(3) {
		one, _, _ := s.pods[ordinal].Load()
		open = append(open, one)
	}
	if open[0]+open[1]+open[2] != 90 || open[2] < 15 || open[0] < open[1] || open[1] < open[2] {
		t.Errorf("the sessions are %v", open)
	}
}

func TestTheOrderOfPodsForANewSession(t *testing.T) {
	room := func(sessions int) load { return load{Sessions: sessions, Max: 1000, Accepting: true} }
	for name, test := range map[string]struct {
		loads map[uint16]load
		want  []uint16
	}{
		"low ordinals first when all are empty":     {map[uint16]load{2: room(0), 0: room(0), 1: room(0)}, []uint16{0, 1, 2}},
		"the lowest while it has few more":          {map[uint16]load{0: room(2), 1: room(0)}, []uint16{0, 1}},
		"not the lowest when it has more":           {map[uint16]load{0: room(3), 1: room(0)}, []uint16{1, 0}},
		"a quarter more with many sessions":         {map[uint16]load{0: room(125), 1: room(100)}, []uint16{0, 1}},
		"not more than a quarter":                   {map[uint16]load{0: room(126), 1: room(100)}, []uint16{1, 0}},
		"no full pod":                               {map[uint16]load{0: {Sessions: 1, Max: 1, Accepting: true}, 1: room(1)}, []uint16{1}},
		"no pod that drains, and it does not count": {map[uint16]load{0: room(9), 1: {Sessions: 0, Max: 9}}, []uint16{0}},
		"the least loaded first of those above":     {map[uint16]load{0: room(20), 1: room(9), 2: room(9), 3: room(0)}, []uint16{3, 1, 2, 0}},
		"nobody":                                    {nil, nil},
	} {
		if got := order(test.loads); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestANewSessionOfHTTPWithSSEIsPlacedAsAnyOther(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].stop()
	got := s.pods[0].sendTo(t.Context(), "/sse", http.MethodGet, "", "")
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAFullPodPassesNewSessionsOnAndAFullServerRefusesThem(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].most, s.pods[1].most = 1, 1
	for range 2 {
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK {
			t.Fatalf("got %+v", got)
		}
	}
	got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize)
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.text, "no pod takes another session") {
		t.Errorf("got %+v", got)
	}
}

func TestAPodThatStopsPassesNewSessionsOn(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].stop()
	for range 3 {
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK {
			t.Fatalf("got %+v", got)
		}
	}
	if open, _, _ := s.pods[1].Load(); open != 3 {
		t.Errorf("pod 1 has %d sessions", open)
	}
}

func TestANewSessionGoesToTheNextPodIfTheFirstIsGone(t *testing.T) {
	s := newSet(t, 3, true)
	if got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // the loads are known
		t.Fatalf("got %+v", got)
	}
	s.kill(0)
	got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize)
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestANewSessionGoesToTheNextPodIfTheConnectionToTheFirstIsLost(t *testing.T) {
	s := newSet(t, 3, true)
	s.pods[0].set(func(p *pod) { p.before = func() { panic(http.ErrAbortHandler) } })
	got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize)
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestANewSessionGoesToTheNextPodIfTheFirstHasJustBecomeFull(t *testing.T) {
	s := newSet(t, 3, true)
	if got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // the loads are known
		t.Fatalf("got %+v", got)
	}
	s.pods[0].set(func(p *pod) { p.most = 1 })
	got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize)
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAPodThatIsAloneOpensSessions(t *testing.T) {
	s := newSet(t, 1, true)
	s.fails = errNoDNS
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.id == "" {
		t.Errorf("got %+v", got)
	}
}

func TestANewSessionGoesToAPodThatHasJustStarted(t *testing.T) {
	s := newSet(t, 1, true)
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // the loads are known
		t.Fatalf("got %+v", got)
	}
	s.pods[0].stop()
	s.add(1)
	waittest.Eventually(t, "a session", func() bool {
		return s.pods[0].send(t.Context(), http.MethodPost, "", initialize).status == http.StatusOK
	})
	if open, _, _ := s.pods[1].Load(); open != 1 {
		t.Errorf("the pod has %d sessions", open)
	}
}
