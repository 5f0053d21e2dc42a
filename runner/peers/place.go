package peers

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// place is a pod that may get a new session.
type place struct {
	ordinal  uint16
	sessions int
}

// choose returns the pod for a new session: the lowest ordinal, because a StatefulSet removes the highest first, but only while that pod has little more
// sessions than the least loaded one: otherwise one pod would do all the work. It reports false if there is no place.
func choose(places []place) (uint16, bool) {
	if len(places) == 0 {
		return 0, false
	}
	least := slices.MinFunc(places, func(a, b place) int { return cmp.Compare(a.sessions, b.sessions) }).sessions
	most := least + max(2, least/4)
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.ordinal, b.ordinal) })
	i := slices.IndexFunc(places, func(p place) bool { return p.sessions <= most })
	return places[i].ordinal, true
}

// loads are the loads of the other pods. They are asked for once in listTime.
type loads struct {
	mutex  sync.Mutex
	places []place
	asked  time.Time
}

// placeFor returns the pod for a new session. It reports false if all pods are full or stop.
func (r *Router) placeFor(ctx context.Context) (uint16, bool) {
	r.loads.mutex.Lock()
	defer r.loads.mutex.Unlock()
	if r.members.now().Sub(r.loads.asked) >= listTime {
		r.loads.places = nil
		for ordinal, one := range r.ask(context.WithoutCancel(ctx), r.members.up(ctx), noSession) {
			if one.Accepting && one.Sessions < one.Max {
				r.loads.places = append(r.loads.places, place{ordinal, one.Sessions})
			}
		}
		r.loads.asked = r.members.now()
	}
	places := slices.Clone(r.loads.places)
	if open, most, isAccepting := r.config.Local.Load(); isAccepting && open < most {
		places = append(places, place{r.config.Ordinal, open})
	}
	chosen, found := choose(places)
	for i := range r.loads.places {
		if r.loads.places[i].ordinal == chosen {
			r.loads.places[i].sessions++ // until it is asked again
		}
	}
	return chosen, found
}

// isFull forgets a pod as a place for new sessions, until it is asked again.
func (r *Router) isFull(ordinal uint16) {
	r.loads.mutex.Lock()
	defer r.loads.mutex.Unlock()
	r.loads.places = slices.DeleteFunc(r.loads.places, func(p place) bool { return p.ordinal == ordinal })
}
