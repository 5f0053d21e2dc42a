package peers

// placeKind is where a session is.
type placeKind int

const (
	placeUnknown placeKind = iota
	placePeer
	placeEnded
	// placeSilent means that it is not known whether another pod has the session.
	placeSilent
	placeNone
)

type place struct {
	kind      placeKind
	ordinal   uint16
	isClaimed bool
	// candidates are the pods that could take a session that nobody has.
	candidates []uint16
}

// locate asks the other pods where a session is. Concurrent requests of a session ask once.
func (r *Router) locate(c *call) place {
	id, opener := c.id, c.record.Ordinal
	result := r.locating.DoChan(id, func() (any, error) { return r.placeOf(r.askAll(r.ctx, id), id, opener), nil })
	select {
	case found := <-result:
		return found.Val.(place)
	case <-c.r.Context().Done():
		return place{}
	}
}

// placeOf concludes from the replies of the other pods where a session is.
func (r *Router) placeOf(replies []reply, id string, opener uint16) place {
	var candidates, claimed []uint16
	isSilent := false
	for _, one := range replies {
		if one.err != nil {
			isSilent = isSilent || one.peer.Ordinal == opener
			continue
		}
		switch one.State {
		case stateLive:
			return place{kind: placePeer, ordinal: one.peer.Ordinal}
		case stateEnded:
			return place{kind: placeEnded}
		case stateClaimed:
			claimed = append(claimed, one.peer.Ordinal)
		}
		if one.hasRoom() {
			candidates = append(candidates, one.peer.Ordinal)
		}
	}
	if len(claimed) > 0 {
		return place{kind: placePeer, ordinal: rank(id, claimed)[0], isClaimed: true}
	}
	// A session that is recreated although another pod has it has two places. A session that is said to have ended is lost.
	if isKnown, isFresh := r.members.areKnown(); !isKnown || (!r.config.Recreate && (isSilent || !isFresh)) {
		return place{kind: placeSilent}
	}
	if r.load().hasRoom() {
		candidates = append(candidates, r.config.Ordinal)
	}
	return place{kind: placeNone, candidates: candidates}
}
