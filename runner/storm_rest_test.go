package main

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// restTimeout is how long pods may take to agree where a session is.
const restTimeout = 5 * time.Second

// rest checks each session through each pod when nothing happens.
func (s *stormStep) rest() {
	if len(s.problems) > 0 {
		return
	}
	for _, one := range s.sessions {
		s.restOf(one)
	}
	for _, one := range s.streams {
		s.restOfStream(one)
	}
	deadline := time.Now().Add(restTimeout)
	for {
		problem := s.wrongPlaces()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			s.fail("%s", problem)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// restOf checks a session through each pod. A session that has ended stays ended, also if all pods that have seen it are gone.
func (s *stormStep) restOf(one *stormSession) {
	isLost := s.isEnd && (one.isGone || one.hasCrashed || (one.owner != nil && slices.Contains(s.victims, one.owner)))
	if s.isEnd && !isLost && s.mayBeLost(one) { // opened in this step
		isLost = len(s.places(one.id)) == 0
	}
	for _, via := range s.reachable() {
		one.last++
		value := fmt.Sprintf("%q", fmt.Sprintf("value %d of %s", one.last, one.label))
		body := toolCall(strconv.Itoa(one.last), "remember", fmt.Sprintf(`{"value":%s}`, value))
		var o outcome
		for deadline := time.Now().Add(restTimeout); ; time.Sleep(10 * time.Millisecond) {
			o = s.storm.send(via, http.MethodPost, body, one.headers()...)
			if o.status != http.StatusServiceUnavailable || time.Now().After(deadline) {
				break
			}
		}
		s.note("%s: at rest through %d: %s", one.label, via.config.ordinal, o)
		isUncertain := one.isEnding && !one.isEnded
		switch {
		case o.status == http.StatusNotFound && isUncertain:
			one.isEnded = true
		case o.status == http.StatusOK && isUncertain:
			one.isEnding = false
		}
		if one.isEnded || isLost {
			if o.status != http.StatusNotFound {
				s.fail("%s has ended, and is answered at rest through %d: %s", one.label, via.config.ordinal, o)
			}
			continue
		}
		if o.status != http.StatusOK {
			s.fail("%s is not served at rest through %d: %s", one.label, via.config.ordinal, o)
			return
		}
		s.expect(one, strconv.Itoa(one.last), o)
		if got := resultText(o.last()); !slices.Contains(one.memory, got) && (got != "" || s.isEnd || !s.mayBeLost(one)) {
			s.fail("%s at rest through %d: the server remembers %s instead of %s", one.label, via.config.ordinal, got, one.memory)
		}
		one.memory = []string{value}
		one.hasCrashed, one.owner = false, nil
		if places := s.places(one.id); len(places) == 1 {
			one.owner = places[0]
		}
	}
	one.isGone = isLost
}

// wrongPlaces returns what is wrong with the places of the sessions; empty if nothing is.
func (s *stormStep) wrongPlaces() string {
	alive := 0
	for _, one := range s.sessions {
		want := 1
		if one.isEnded || one.isGone {
			want = 0
		}
		alive += want
		if places := s.places(one.id); len(places) != want {
			return fmt.Sprintf("%s is in the pods %v", one.label, ordinals(places))
		}
	}
	for _, one := range s.streams {
		want := 1
		if one.hasEnded() {
			want = 0
		}
		alive += want
		if places := s.places(one.id); len(places) != want {
			return fmt.Sprintf("%s is in the pods %v", one.label, ordinals(places))
		}
	}
	open := 0
	for _, p := range s.reachable() {
		here, _, _ := p.server.Load()
		open += here
	}
	if open < alive || open > alive+s.lost {
		return fmt.Sprintf("the pods have %d sessions, the clients %d", open, alive)
	}
	return ""
}
