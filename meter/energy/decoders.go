package energy

// group is the requests of one upstream that decode together, one token each per step of their batch.
//
// A step costs e0 per read of the weights, and c + k x context per member. The exact Shapley share of a
// read that n members need alike is e0/n; where slots do not share a cache, only runs of adjacent slots
// are batched, the reads are (members - adjacent pairs), and the share of a member with d adjacent slots
// decoding is e0 (1 - d/2). What a window measured is divided in proportion to these costs.
//
// Members are not visited: five running sums grow with every window, and a member's share is a
// difference of sums, taken when it joins, changes its neighbours, or leaves.
type group struct {
	index   int
	model   model
	sharing sharing
	busy    bool // it is in Ledger.busy
	holding int  // requests that hold a slot

	n       int // members
	slotted int // of them with a known slot
	pairs   int // adjacent slots both decoding
	slots   []int32
	context float64 // sum over members of context minus steps at joining
	stepped float64 // steps since the group was last empty
	pot     pot     // decode energy not yet drawn; its own running sum is not used

	sums     decMark
	inWindow float64 // steps of the window being settled
	who      int32   // exclusive or of the members' indices: the member itself where there is one
	run      run

	left      []int32 // requests whose cells are still in the shared cache, by their end
	leftCells float64

	steps steps // front: how many steps there were
}

// decMark are the running sums: of a unit of e0 to every member by its weight (read) or alike (split),
// of c, of k x 1 and of k x steps.
type decMark struct{ read, split, token, context, steps, left float64 }

const maxSlots = 4096

func newGroup(index int, c Coefficients, unified bool) *group {
	s := splitCaches
	switch {
	case c.Decode > 0 && c.SharedCache:
		s = sharedCache
	case c.Decode > 0 && c.Unified || c.Decode == 0 && unified:
		s = sharedRead
	}
	return &group{index: index, model: newModel(c, s), sharing: s, steps: steps{oldest: -1, newest: -1}}
}

// placed reports whether every member's slot is known.
func (g *group) placed() bool { return g.slotted == g.n && g.n > 1 }

// slotMode reports whether shares go by slot adjacency.
func (g *group) slotMode() bool { return g.sharing == splitCaches && g.placed() }

// terms are the regressors of one step: reads, tokens, tokens x context / 1000.
func (g *group) terms() [unknowns]float64 { return g.termsIf(g.sharing) }

// termsIf are those under an assumption about what the slots share.
func (g *group) termsIf(s sharing) [unknowns]float64 {
	x := [unknowns]float64{1, float64(g.n), g.contexts() / 1000}
	switch {
	case s == sharedCache:
		x[coefContext] = g.cells() / 1000
	case s == splitCaches && g.placed():
		x[coefStep] = float64(g.n - g.pairs)
	}
	return x
}

// stepUJ is the modelled cost of one step.
func (g *group) stepUJ() float64 { return dot(g.terms(), g.model.decode.theta) }

// stepCost is the modelled cost of a step of n members with the context that members have now.
func (g *group) stepCost(n float64) float64 {
	t := g.model.decode.theta
	var context float64
	if g.n > 0 {
		context = (g.context/float64(g.n) + g.stepped) / 1000
		if g.sharing == sharedCache {
			context += g.leftCells / 1000 / n
		}
	}
	return t[coefStep] + n*(t[coefDecoded]+t[coefContext]*context)
}

// share spreads uj over the members.
func (g *group) share(uj int64) {
	t := g.model.decode.theta
	x := g.terms()
	cost := dot(x, t)
	g.pot.balance += uj
	if cost <= 0 { // nothing is known: alike
		g.sums.split += float64(uj) / float64(g.n)
		return
	}
	q := float64(uj) / cost
	if g.slotMode() {
		g.sums.read += t[coefStep] * q
	} else {
		g.sums.split += t[coefStep] * q / float64(g.n)
	}
	g.sums.token += t[coefDecoded] * q
	g.sums.context += t[coefContext] * q / 1000
	g.sums.steps += t[coefContext] * q / 1000 * (g.stepped - g.inWindow/2)
	if g.sharing == sharedCache {
		n := float64(g.n)
		g.sums.left += t[coefContext] * q / 1000 * n / (n + 1)
		g.sums.token += t[coefContext] * q / 1000 * g.leftCells / (n * (n + 1))
	}
}

// neighbours is the number of adjacent slots that also decode.
func (g *group) neighbours(slot int) int {
	d := 0
	if slot > 0 && slot-1 < len(g.slots) && g.slots[slot-1] >= 0 {
		d++
	}
	if slot+1 < len(g.slots) && g.slots[slot+1] >= 0 {
		d++
	}
	return d
}

// joinDecoders adds request i, whose context is ctx tokens now.
func (l *Ledger) joinDecoders(i int32, ctx int64) {
	r := l.req(i)
	g := r.group
	g.n++
	g.who ^= i
	r.ctx = float64(ctx) - g.stepped
	g.context += r.ctx
	r.dec = g.sums
	r.reads = 1
	if r.slot >= 0 {
		l.occupy(i)
	}
}

// leaveDecoders takes request i out with its share.
func (l *Ledger) leaveDecoders(i int32) {
	r := l.req(i)
	g := r.group
	l.accrue(i)
	uj := g.pot.take(r.decodeF)
	r.decodeUJ += uj
	l.vacate(i)
	g.who ^= i
	g.context -= r.ctx
	if g.n--; g.n == 0 {
		g.context, g.stepped = 0, 0
		if len(g.left) == 0 {
			l.emptyPot(g)
		}
	}
}

// emptyPot closes the group's pot when nobody has a part in it any more.
func (l *Ledger) emptyPot(g *group) {
	l.back.residual(g.pot.balance)
	g.pot, g.sums = pot{}, decMark{}
}

// accrue brings request i's share up to date with the running sums.
func (l *Ledger) accrue(i int32) {
	r := l.req(i)
	s, m := &r.group.sums, &r.dec
	r.decodeF += r.reads*(s.read-m.read) + (s.split - m.split) + (s.token - m.token) +
		r.ctx*(s.context-m.context) + (s.steps - m.steps)
	r.dec = *s
}

// occupy notes request i's slot and brings its neighbours' shares up to date before their number of
// neighbours changes.
func (l *Ledger) occupy(i int32) {
	r := l.req(i)
	g := r.group
	if r.slot >= maxSlots {
		return
	}
	for len(g.slots) <= r.slot {
		g.slots = append(g.slots, -1)
	}
	if g.slots[r.slot] >= 0 { // two claim one slot: neither is believed
		return
	}
	l.changeNeighbours(g, r.slot, -0.5)
	d := g.neighbours(r.slot)
	l.accrue(i)
	r.reads = 1 - float64(d)/2
	r.placed = true
	g.slots[r.slot] = i
	g.pairs += d
	g.slotted++
}

func (l *Ledger) vacate(i int32) {
	r := l.req(i)
	if !r.placed {
		return
	}
	g := r.group
	r.placed = false
	g.slots[r.slot] = -1
	g.slotted--
	g.pairs -= g.neighbours(r.slot)
	l.changeNeighbours(g, r.slot, +0.5)
	l.accrue(i)
	r.reads = 1
}

func (l *Ledger) changeNeighbours(g *group, slot int, by float64) {
	for _, s := range [2]int{slot - 1, slot + 1} {
		if s >= 0 && s < len(g.slots) && g.slots[s] >= 0 {
			n := g.slots[s]
			l.accrue(n)
			l.req(n).reads += by
		}
	}
}
