package energy

// The draw outlasts the last token by a moment (0.7 to 1.7 J on an H100). It belongs to those who worked
// last. A request that has ended therefore stays open until either somebody else still works
// enderSpan later, or the tail is over.

// chargeTail divides a tail window's active energy alike among its owners and returns what is left.
func (l *Ledger) chargeTail(uj int64) int64 {
	b := &l.back
	l.findOwners()
	if len(b.owners) == 0 {
		return uj
	}
	each := uj / int64(len(b.owners))
	for _, i := range b.owners {
		r := l.req(i)
		if r.first > 0 && r.decodeUJ > 0 {
			r.decodeUJ += each
		} else {
			r.prefillUJ += each
		}
		if len(b.owners) == 1 {
			r.aloneUJ += each
		}
		b.given.active += each
	}
	return uj - each*int64(len(b.owners))
}

// findOwners makes the requests that ended last the owners of the tail.
func (l *Ledger) findOwners() {
	b := &l.back
	n := b.enders.len()
	if len(b.owners) > 0 || n == 0 {
		return
	}
	last := l.req(*b.enders.at(n - 1)).end
	for b.enders.len() > 0 {
		i := b.enders.pop()
		if l.req(i).end >= last-enderSpan {
			b.owners = append(b.owners, i)
		} else {
			l.release(i)
		}
	}
}

// release ends request i's claim on a tail.
func (l *Ledger) release(i int32) {
	l.req(i).tail = false
	l.finish(i)
}

// endTail closes the tail: its owners are final.
func (l *Ledger) endTail() {
	b := &l.back
	for _, i := range b.owners {
		l.release(i)
	}
	b.owners = b.owners[:0]
}

// releaseEnders lets go of requests that ended while others went on working, and of a tail that is over.
func (l *Ledger) releaseEnders(now int64) {
	b := &l.back
	if now >= b.worked+tailTime {
		l.findOwners()
		l.endTail()
	}
	if b.prefilling+b.decoding == 0 {
		return
	}
	for b.enders.len() > 0 && l.req(*b.enders.at(0)).end < now-enderSpan {
		l.release(b.enders.pop())
	}
}
