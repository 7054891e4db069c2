package energy

// The tail is the active draw just after the last token (0.7 to 1.7 J on an H100). The requests that worked last pay for
// it. A request that has ended therefore stays open until another one still works endedTogether later, or
// the tail is over.

// chargeTail divides a tail window's active energy equally among its owners and returns the remainder.
func (l *Ledger) chargeTail(uj int64) int64 {
	alloc := &l.allocator
	l.findOwners()
	if len(alloc.tailOwners) == 0 {
		return uj
	}
	each := uj / int64(len(alloc.tailOwners))
	for _, i := range alloc.tailOwners {
		r := l.req(i)
		if r.first > 0 && r.decodeUJ > 0 {
			r.decodeUJ += each
		} else {
			r.prefillUJ += each
		}
		if len(alloc.tailOwners) == 1 {
			r.aloneUJ += each
		}
		alloc.charged.active += each
	}
	return uj - each*int64(len(alloc.tailOwners))
}

// findOwners makes the requests that ended last the owners of the tail.
func (l *Ledger) findOwners() {
	alloc := &l.allocator
	n := alloc.recentlyEnded.len()
	if len(alloc.tailOwners) > 0 || n == 0 {
		return
	}
	last := l.req(*alloc.recentlyEnded.at(n - 1)).end
	for alloc.recentlyEnded.len() > 0 {
		i := alloc.recentlyEnded.pop()
		if l.req(i).end >= last-endedTogether {
			alloc.tailOwners = append(alloc.tailOwners, i)
		} else {
			l.releaseTail(i)
		}
	}
}

// releaseTail ends the time in which request i can be charged with a tail.
func (l *Ledger) releaseTail(i int32) {
	l.req(i).mayOwnTail = false
	l.emitResult(i)
}

// endTail closes the tail and releases its owners.
func (l *Ledger) endTail() {
	alloc := &l.allocator
	for _, i := range alloc.tailOwners {
		l.releaseTail(i)
	}
	alloc.tailOwners = alloc.tailOwners[:0]
}

// releaseEnded releases requests that ended while others went on working, and those of a tail that is over.
func (l *Ledger) releaseEnded(now int64) {
	alloc := &l.allocator
	if now >= alloc.lastWork+tailTime {
		l.findOwners()
		l.endTail()
	}
	if alloc.prefilling+alloc.decoding == 0 {
		return
	}
	for alloc.recentlyEnded.len() > 0 && l.req(*alloc.recentlyEnded.at(0)).end < now-endedTogether {
		l.releaseTail(alloc.recentlyEnded.pop())
	}
}
