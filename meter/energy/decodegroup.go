package energy

import "wattline/meter"

// decodeGroup is the requests of one upstream that decode together, one token each per step of their batch.
//
// A step costs e0 per read of the weights, and c + k x context per member. The exact Shapley share of a
// read that n members need alike is e0/n; where slots do not share a cache, only runs of adjacent slots
// are batched, the reads are (members - adjacent pairs), and the share of a member with d adjacent slots
// decoding is e0 (1 - d/2). What a window measured is divided in proportion to these costs.
//
// A window does not visit the members: it adds to running sums, and a member's share is computed from their
// differences when it joins, when its neighbours change, and when it leaves.
type decodeGroup struct {
	index       int
	model       model
	sharing     sharing
	busy        bool // it is in Ledger.busyGroups
	slotHolders int  // requests that hold a slot
	slotCount   int  // of the server; 0 unknown

	// Owned by the segmenter.
	segHolders int        // requests that hold a slot
	deferred   []followed // presumed to decode, and waiting for a slot

	members         int // requests that decode
	membersWithSlot int // of them with a known slot
	adjacentPairs   int // pairs of adjacent slots that both decode
	slots           []int32
	context         float64 // sum of the members' contextOffset
	stepped         float64 // steps since the group was last empty
	account         account // decode energy not drawn yet; its running sum is not used

	sums        decodeSums
	doubtful    int // members of which it is not known whether they decode
	unseen      int // requests that may decode too, and that nothing tells of
	doubt       doubtSums
	windowSteps float64 // steps of the window being settled
	memberXor   int32   // exclusive or of the members' indices: of a lone member, its index
	run         decodeRun

	leftoverOwners []int32 // requests with cells still in the shared cache, by their end
	leftoverCells  float64

	stepCounter stepCounter // owned by the segmenter
}

// decodeSums are running sums of uJ: of a member's part of e0 by its readWeight (read) or equal for all
// (split), of c (token), of k a token of context (context), of k x the group's steps (steps), and of what a
// leftover cell's owner pays (leftover).
type decodeSums struct{ read, split, token, context, steps, leftover float64 }

// doubtSums are running sums of uJ while it is not known of some members whether they decode: what a member was charged
// (own), and how much more it would have been without those (other).
type doubtSums struct{ own, other float64 }

// setDoubt notes whether it is not known that request i decodes.
func (l *Ledger) setDoubt(i int32, on bool) {
	r := l.req(i)
	if r.doubt == on || r.phase != meter.PhaseDecode {
		return
	}
	l.updateDoubt(r)
	r.doubt = on
	if on {
		r.group.doubtful++
	} else {
		r.group.doubtful--
	}
}

// updateDoubt brings doubtUJ up to date.
func (l *Ledger) updateDoubt(r *request) {
	g := r.group
	if r.doubt {
		r.doubtUJ += g.doubt.own - r.doubtSnapshot.own
	} else {
		r.doubtUJ += g.doubt.other - r.doubtSnapshot.other
	}
	r.doubtSnapshot = g.doubt
}

const maxSlots = 4096

func newDecodeGroup(index int, c Coefficients, unified bool) *decodeGroup {
	s := splitCaches
	switch {
	case c.Decode > 0 && c.SharedCache:
		s = sharedCache
	case c.Decode > 0 && c.Unified || c.Decode == 0 && unified:
		s = sharedRead
	}
	return &decodeGroup{index: index, model: newModel(c, s), sharing: s, stepCounter: stepCounter{oldest: -1, newest: -1}}
}

// allSlotsKnown reports whether there are several members and all their slots are known.
func (g *decodeGroup) allSlotsKnown() bool { return g.membersWithSlot == g.members && g.members > 1 }

// slotMode reports whether shares depend on which slots are adjacent.
func (g *decodeGroup) slotMode() bool { return g.sharing == splitCaches && g.allSlotsKnown() }

// terms are the regressors of one step: reads, tokens, tokens x context / 1000.
func (g *decodeGroup) terms() [unknowns]float64 { return g.termsIf(g.sharing) }

// termsIf are the regressors under an assumption about what the slots share.
func (g *decodeGroup) termsIf(s sharing) [unknowns]float64 {
	x := [unknowns]float64{1, float64(g.members), g.contexts() / 1000}
	switch {
	case s == sharedCache:
		x[coefContext] = g.cells() / 1000
	case s == splitCaches && g.allSlotsKnown():
		x[coefStep] = float64(g.members - g.adjacentPairs)
	}
	return x
}

// stepUJ is the modelled cost of one step.
func (g *decodeGroup) stepUJ() float64 { return dot(g.terms(), g.model.decode.coef) }

// stepCost is the modelled cost of a step of n members with the context that members have now.
func (g *decodeGroup) stepCost(n float64) float64 {
	t := g.model.decode.coef
	var context float64
	if g.members > 0 {
		context = (g.context/float64(g.members) + g.stepped) / 1000
		if g.sharing == sharedCache {
			context += g.leftoverCells / 1000 / n
		}
	}
	return t[coefStep] + n*(t[coefDecoded]+t[coefContext]*context)
}

// divide divides uj among the members by modelled cost.
func (g *decodeGroup) divide(uj int64) {
	t := g.model.decode.coef
	x := g.terms()
	cost := dot(x, t)
	g.account.balance += uj
	if n := g.doubtful + g.unseen; n > 0 {
		each := float64(uj) / float64(g.members)
		g.doubt.own += each
		g.doubt.other += each * float64(g.doubtful) / float64(max(1, g.members-g.doubtful))
		g.doubt.other += each * float64(g.unseen) / float64(g.members+g.unseen)
	}
	if cost <= 0 { // nothing is known: equal parts
		g.sums.split += float64(uj) / float64(g.members)
		return
	}
	q := float64(uj) / cost
	if g.slotMode() {
		g.sums.read += t[coefStep] * q
	} else {
		g.sums.split += t[coefStep] * q / float64(g.members)
	}
	g.sums.token += t[coefDecoded] * q
	g.sums.context += t[coefContext] * q / 1000
	g.sums.steps += t[coefContext] * q / 1000 * (g.stepped - g.windowSteps/2)
	if g.sharing == sharedCache {
		n := float64(g.members)
		g.sums.leftover += t[coefContext] * q / 1000 * n / (n + 1)
		g.sums.token += t[coefContext] * q / 1000 * g.leftoverCells / (n * (n + 1))
	}
}

// neighbours is the number of adjacent slots that also decode.
func (g *decodeGroup) neighbours(slot int) int {
	d := 0
	if slot > 0 && slot-1 < len(g.slots) && g.slots[slot-1] >= 0 {
		d++
	}
	if slot+1 < len(g.slots) && g.slots[slot+1] >= 0 {
		d++
	}
	return d
}

// joinDecoders adds request i with a context of ctx tokens.
func (l *Ledger) joinDecoders(i int32, ctx int64) {
	r := l.req(i)
	g := r.group
	g.members++
	g.memberXor ^= i
	r.contextOffset = float64(ctx) - g.stepped
	g.context += r.contextOffset
	r.decodeSnapshot = g.sums
	r.doubtSnapshot = g.doubt
	r.readWeight = 1
	if r.slot >= 0 {
		l.occupySlot(i)
	}
}

// leaveDecoders removes request i and charges it with its share.
func (l *Ledger) leaveDecoders(i int32) {
	r := l.req(i)
	g := r.group
	l.updateShare(i)
	if l.updateDoubt(r); r.doubt {
		r.doubt = false
		g.doubtful--
	}
	uj := g.account.take(r.decodeShare)
	r.decodeUJ += uj
	l.vacateSlot(i)
	g.memberXor ^= i
	g.context -= r.contextOffset
	if g.members--; g.members == 0 {
		g.context, g.stepped = 0, 0
		if len(g.leftoverOwners) == 0 {
			l.closeAccount(g)
		}
	}
}

// closeAccount empties the group's account once no request owns a part of it.
func (l *Ledger) closeAccount(g *decodeGroup) {
	l.allocator.residual(g.account.balance)
	g.account, g.sums = account{}, decodeSums{}
}

// updateShare brings request i's share up to date with the running sums.
func (l *Ledger) updateShare(i int32) {
	r := l.req(i)
	s, m := &r.group.sums, &r.decodeSnapshot
	r.decodeShare += r.readWeight*(s.read-m.read) + (s.split - m.split) + (s.token - m.token) +
		r.contextOffset*(s.context-m.context) + (s.steps - m.steps)
	r.decodeSnapshot = *s
}

// occupySlot notes request i's slot, and updates its neighbours' shares before their number of neighbours
// changes.
func (l *Ledger) occupySlot(i int32) {
	r := l.req(i)
	g := r.group
	if r.slot >= maxSlots {
		return
	}
	for len(g.slots) <= r.slot {
		g.slots = append(g.slots, -1)
	}
	if g.slots[r.slot] >= 0 { // two requests claim one slot: the second claim is ignored
		return
	}
	l.changeNeighbours(g, r.slot, -0.5)
	d := g.neighbours(r.slot)
	l.updateShare(i)
	r.readWeight = 1 - float64(d)/2
	r.hasSlot = true
	g.slots[r.slot] = i
	g.adjacentPairs += d
	g.membersWithSlot++
}

func (l *Ledger) vacateSlot(i int32) {
	r := l.req(i)
	if !r.hasSlot {
		return
	}
	g := r.group
	r.hasSlot = false
	g.slots[r.slot] = -1
	g.membersWithSlot--
	g.adjacentPairs -= g.neighbours(r.slot)
	l.changeNeighbours(g, r.slot, +0.5)
	l.updateShare(i)
	r.readWeight = 1
}

func (l *Ledger) changeNeighbours(g *decodeGroup, slot int, by float64) {
	for _, s := range [2]int{slot - 1, slot + 1} {
		if s >= 0 && s < len(g.slots) && g.slots[s] >= 0 {
			n := g.slots[s]
			l.updateShare(n)
			l.req(n).readWeight += by
		}
	}
}
