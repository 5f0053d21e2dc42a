package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func dataOf(events []Event) (all []string) {
	for _, event := range events {
		all = append(all, fmt.Sprint(event.Sequence, string(event.Data)))
	}
	return all
}

func add(t *testing.T, l *Log, messages ...string) {
	t.Helper()
	for _, message := range messages {
		if err := l.Add(t.Context(), []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
}

func next(t *testing.T, r *Reader) []string {
	t.Helper()
	events, _, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dataOf(events)
}

func TestAReaderGetsEachEventOnce(t *testing.T) {
	l := NewLog("g", 100)
	add(t, l, "a", "b")
	r := l.Attach(0)
	if got := next(t, r); !slices.Equal(got, []string{"1a", "2b"}) {
		t.Error(got)
	}
	add(t, l, "c")
	l.Close()
	if got := next(t, r); !slices.Equal(got, []string{"3c"}) {
		t.Error(got)
	}
	if got := next(t, r); got != nil {
		t.Errorf("after the end: %v", got)
	}
}

func TestAReaderGoesOnAfterAnEvent(t *testing.T) {
	l := NewLog("g", 100)
	add(t, l, "a", "b", "c")
	l.Attach(0).Detach()
	if got := next(t, l.Attach(1)); !slices.Equal(got, []string{"2b", "3c"}) {
		t.Error(got)
	}
	if got := next(t, l.Attach(2)); !slices.Equal(got, []string{"3c"}) {
		t.Error(got)
	}
}

func TestANewReaderReplacesTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog("g", 100)
		failed := make(chan error)
		old := l.Attach(0)
		go func() { _, _, err := old.Next(t.Context()); failed <- err }()
		synctest.Wait()
		r := l.Attach(0)
		if err := <-failed; !errors.Is(err, ErrReplaced) {
			t.Error(err)
		}
		old.Detach() // does not detach the new one
		if !l.HasReader() {
			t.Error("the new reader is detached")
		}
		r.Detach()
		if l.HasReader() {
			t.Error("the reader is still attached")
		}
	})
}

func TestTheLastMessageComesWithTheEnd(t *testing.T) {
	l := NewLog("g", 100)
	if err := l.Finish(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	add(t, l, "after the end")
	if events, isEnd, err := l.Attach(0).Next(t.Context()); len(events) != 1 || !isEnd || err != nil {
		t.Error(dataOf(events), isEnd, err)
	}
	if !l.IsComplete(1) || l.IsComplete(0) {
		t.Error("an event that was not read is forgotten")
	}
}

func TestWithoutAReaderTheOldestAreDropped(t *testing.T) {
	l := NewLog("g", 3)
	add(t, l, "a", "b", "c", "d", "long message")
	if got := next(t, l.Attach(0)); !slices.Equal(got, []string{"5long message"}) {
		t.Error(got)
	}
}

func TestASlowReaderSlowsTheSenderDownAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog("g", 3)
		r := l.Attach(0)
		sent := 0
		go func() {
			for range 10 {
				if l.Add(t.Context(), []byte("x")) == nil {
					sent++
				}
			}
			l.Close()
		}()
		synctest.Wait()
		if sent != 4 {
			t.Errorf("%d messages were accepted without a read", sent)
		}
		got := 0
		for {
			events, _, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(events) == 0 {
				break
			}
			got += len(events)
			synctest.Wait()
		}
		if got != 10 {
			t.Errorf("the reader got %d of 10", got)
		}
	})
}

func TestASenderStopsWaitingWhenTheReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog("g", 1)
		r := l.Attach(0)
		done := make(chan error)
		go func() {
			done <- errors.Join(l.Add(t.Context(), []byte("aa")), l.Add(t.Context(), []byte("bb")))
		}()
		synctest.Wait()
		r.Detach()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestASenderStopsWaitingWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog("g", 1)
		l.Attach(0)
		add(t, l, "aa")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Add(ctx, []byte("bb")) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestTheFormatOfEvents(t *testing.T) {
	recorder := httptest.NewRecorder()
	w, err := NewWriter(recorder, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.Event(EventID("g", 3), "", []byte(`{"a":1}`)), w.Event("", "endpoint", []byte("/messages")), w.Event("g-0", "", nil), w.Retry(2 * time.Second), w.KeepAlive(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := "id: g-3\ndata: {\"a\":1}\n\nevent: endpoint\ndata: /messages\n\nid: g-0\ndata: \n\nretry: 2000\n\n: keep-alive\n\n"
	if got := recorder.Body.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParseEventID(f *testing.F) {
	f.Add("g-1")
	f.Fuzz(func(t *testing.T, id string) {
		name, sequence, ok := ParseEventID(id)
		if again, number, isID := ParseEventID(EventID(name, sequence)); ok && (!isID || again != name || number != sequence) {
			t.Errorf("%q is %q, %d, and again %q, %d", id, name, sequence, again, number)
		}
	})
}
