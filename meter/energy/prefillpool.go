package energy

import (
	"math"

	"wattline/meter"
)

// pool collects the active joules of prefills that overlap. A server batches such prompts together, and tells
// how many tokens each had only when its reply ends. When the last member's count is known the pool is
// divided by the modelled work of each.
type pool struct {
	members        []member
	uj             int64
	decodeUJ       int64   // uJ that decoders were charged in the same windows
	decodeCost     float64 // modelled cost of their steps, as without a prefill
	freshTokens    float64 // new and cached tokens of all members; set when the pool is divided
	cachedTokens   float64
	edgeVar        float64 // variance of the pool's edges
	opened         int64
	closed         int64
	prefilling     int // members still in prefill
	unknownCounts  int // members with unknown counts
	guessed        bool
	beforeBaseline bool // the idle draw was not known, so a part of it is in uj
	contended      bool // another process computed during a part of it
	unseen         bool // requests that nothing tells of may have worked during a part of it
}

// maxPoolsPerRequest is the most undivided pools that one request can be a member of: one is closed at most
// every SettleMax, and is divided at most SettleMax later.
const maxPoolsPerRequest = 4

// poolRef is a request's position in a pool.
type poolRef struct{ pool, member int }

// waitingPool is a closed pool that lacks a count. Pools are reused, so the times say which use is meant.
type waitingPool struct {
	pool           int
	opened, closed int64
}

// member is a request in a pool.
type member struct {
	req        int32
	unfinished bool    // its prefill went on when the pool was closed
	part       float64 // of its prompt, processed in this pool; set when the pool is divided
}

// joinPool adds request i to the open pool, or opens one. A pool that has been open for SettleMax is closed
// first: its members go on in a new one, and each pool later gets a part of their work (apportion).
func (l *Ledger) joinPool(i int32, now int64) {
	alloc := &l.allocator
	if alloc.pool >= 0 && now-alloc.pools[alloc.pool].opened > int64(l.cfg.SettleMax) {
		l.rotatePool(now)
	}
	if alloc.pool < 0 {
		l.openPool(now)
	}
	l.addMember(i)
}

func (l *Ledger) openPool(now int64) {
	alloc := &l.allocator
	if n := len(alloc.freePools); n > 0 {
		alloc.pool = alloc.freePools[n-1]
		alloc.freePools = alloc.freePools[:n-1]
	} else {
		alloc.pools = append(alloc.pools, pool{})
		alloc.pool = len(alloc.pools) - 1
	}
	p := &alloc.pools[alloc.pool]
	*p = pool{members: p.members[:0], opened: now}
}

func (l *Ledger) addMember(i int32) {
	alloc := &l.allocator
	p := &alloc.pools[alloc.pool]
	r := l.req(i)
	if r.poolCount == maxPoolsPerRequest { // impossible while pools rotate at most every SettleMax
		r.estimated = true
		return
	}
	r.poolRefs[r.poolCount] = poolRef{pool: alloc.pool, member: len(p.members)}
	r.poolCount++
	p.members = append(p.members, member{req: i})
	p.prefilling++
	if !r.known {
		p.unknownCounts++
	}
}

// rotatePool closes the open pool and opens another for those still in prefill.
func (l *Ledger) rotatePool(now int64) {
	alloc := &l.allocator
	old := alloc.pool
	alloc.pool = -1
	l.openPool(now)
	for k := range alloc.pools[old].members {
		if m := &alloc.pools[old].members[k]; l.req(m.req).phase == meter.PhasePrefill {
			m.unfinished = true
			l.addMember(m.req)
		}
	}
	alloc.pools[old].guessed, alloc.pools[alloc.pool].guessed = true, true
	l.closePool(old, now)
}

// leavePool ends request i's prefill.
func (l *Ledger) leavePool(i int32, now int64) {
	alloc := &l.allocator
	r := l.req(i)
	if alloc.pool < 0 || r.poolCount == 0 || r.poolRefs[r.poolCount-1].pool != alloc.pool {
		return
	}
	p := &alloc.pools[alloc.pool]
	if p.prefilling--; p.prefilling == 0 {
		l.closePool(alloc.pool, now)
		alloc.pool = -1
	}
}

func (l *Ledger) closePool(n int, now int64) {
	alloc := &l.allocator
	p := &alloc.pools[n]
	p.prefilling, p.closed = 0, now
	if p.unknownCounts == 0 {
		alloc.knownPools = append(alloc.knownPools, n)
		return
	}
	alloc.waitingPools.push(waitingPool{n, p.opened, now})
}

// countsKnown tells request i's pools that its prompt is known, or never will be and is guessed.
func (l *Ledger) countsKnown(i int32) {
	alloc := &l.allocator
	r := l.req(i)
	for _, at := range r.poolRefs[:r.poolCount] {
		p := &alloc.pools[at.pool]
		if p.unknownCounts--; p.unknownCounts == 0 && p.closed > 0 {
			alloc.knownPools = append(alloc.knownPools, at.pool)
		}
	}
}

// dividePools divides the closed pools that know all their members, or have waited long enough.
func (l *Ledger) dividePools(now int64) {
	alloc := &l.allocator
	for w := &alloc.waitingPools; w.len() > 0; w.pop() {
		o := w.at(0)
		p := &alloc.pools[o.pool]
		if p.closed != o.closed || p.opened != o.opened || p.unknownCounts == 0 {
			continue // divided already, or about to be
		}
		if now-o.closed <= int64(l.cfg.SettleMax) {
			break
		}
		alloc.knownPools = append(alloc.knownPools, o.pool)
		p.unknownCounts = 0
		w.pop()
		break
	}
	for k := 0; k < len(alloc.knownPools); k++ {
		n := alloc.knownPools[k]
		l.dividePool(n)
		alloc.freePools = append(alloc.freePools, n)
	}
	alloc.knownPools = alloc.knownPools[:0]
}

func (l *Ledger) dividePool(n int) {
	alloc := &l.allocator
	p := &alloc.pools[n]
	l.apportion(p)
	l.countCells(p)
	var whole float64
	var sum [unknowns]float64
	for _, m := range p.members {
		whole += l.poolWork(m, p)
		for i, t := range l.poolTerms(m, p) {
			sum[i] += t
		}
	}
	if most := l.boundPool(p, whole); p.uj > most {
		alloc.residual(p.uj - most)
		p.uj = most
	}
	left := p.uj
	doubt := l.poolDoubt(p, whole)
	for _, m := range p.members {
		r := l.req(m.req)
		if whole > 0 {
			part := l.poolWork(m, p) / whole
			uj := min(int64(float64(p.uj)*part+1e-6), left)
			r.prefillUJ += uj
			left -= uj
			// So much of it could have been caused by the others in the pool, or by decoders at the same time.
			r.contested += float64(uj)*(1-part) + min(float64(uj), float64(p.decodeUJ)*part)
			r.edgeVar += p.edgeVar * part * part
			r.modelVar += l.divisionVariance(m, p, part, whole, sum)
			r.doubtUJ += doubt * part
		}
		r.estimated = r.estimated || !r.known || p.guessed
		r.forget(n)
	}
	alloc.residual(left)
	alloc.charged.active += p.uj - left
	l.learnPool(p)
	p.uj, p.closed = 0, 0
	for k := range p.members {
		l.emitResult(p.members[k].req)
	}
}

// apportion finds the part of its prompt that each member processed in the pool: all that it had not processed
// in an earlier one. Of those that were unfinished when the pool was closed, the first to come is served
// first, as far as the pool's energy goes.
func (l *Ledger) apportion(p *pool) {
	rest := float64(p.uj)
	for k := range p.members {
		m := &p.members[k]
		r := l.req(m.req)
		m.part = 1 - r.donePart
		if !m.unfinished {
			rest -= l.promptWork(*m)
		}
	}
	for k := range p.members {
		m := &p.members[k]
		r := l.req(m.req)
		if work := l.promptWork(*m); m.unfinished && work > 0 {
			m.part *= min(max(rest, 0)/work, 1)
			rest -= work
		}
		r.donePart += m.part
	}
}

// boundPool is the most energy that the modelled work of a pool explains. The rest of the draw is another
// process's.
func (l *Ledger) boundPool(p *pool, whole float64) int64 {
	fit := l.req(p.members[0].req).group.model.prefill
	switch {
	case whole <= 0 || !fit.learnt() || p.guessed:
	case p.contended:
		return int64(whole * (1 + fit.relError()))
	case fit.observed >= bandMinWindows:
		return int64(whole * band)
	}
	return math.MaxInt64
}

// poolDoubt is how many uJ of a pool, with modelled work whole, may be somebody else's.
func (l *Ledger) poolDoubt(p *pool, whole float64) float64 {
	off := float64(p.uj) - whole
	if p.unseen {
		return max(0, off)
	}
	g := l.req(p.members[0].req).group
	edge := l.allocator.prefillMW() * l.src.edgeError() * 1e-6
	sd := math.Hypot(edge, g.model.prefill.relError()*whole+g.model.decode.relError()*p.decodeCost)
	if off = math.Abs(off); off <= strange*sd || !g.model.prefill.learnt() {
		return 0
	}
	return off
}

// forget takes a divided pool off the request's list.
func (r *request) forget(pool int) {
	for k := range r.poolCount {
		if r.poolRefs[k].pool == pool {
			copy(r.poolRefs[k:], r.poolRefs[k+1:r.poolCount])
			r.poolCount--
			return
		}
	}
}

// divisionVariance is the variance of a member's part that comes from the coefficients: of the terms in which it
// differs from its pool (their sum is sum), and of the cost of decoding during the pool's prefills.
func (l *Ledger) divisionVariance(m member, p *pool, part, whole float64, sum [unknowns]float64) float64 {
	model := l.req(m.req).group.model.prefill
	x := l.poolTerms(m, p)
	for i := range x {
		x[i] = (x[i] - part*sum[i]) * float64(p.uj) / whole
	}
	e := duringPrefillRel * p.decodeCost * part
	return model.variance(x) + e*e
}

// promptTerms are the regressors of the work that a member did while its pool was open.
func (l *Ledger) promptTerms(m member) [unknowns]float64 {
	r := l.req(m.req)
	prompt, cached := r.prompt, r.cached
	if !r.known {
		prompt, cached = r.guess, 0
	}
	t := promptTerms(prompt, cached)
	for k := range t {
		t[k] *= m.part
	}
	return t
}

// promptWork is the modelled work that a member did while its pool was open.
func (l *Ledger) promptWork(m member) float64 {
	return dot(l.promptTerms(m), l.req(m.req).group.model.prefill.coef)
}

// countCells sums the members' tokens.
func (l *Ledger) countCells(p *pool) {
	p.freshTokens, p.cachedTokens = 0, 0
	for _, m := range p.members {
		fresh, cached := l.promptCells(m)
		p.freshTokens += fresh
		p.cachedTokens += cached
	}
}

// promptCells are a member's new and cached tokens.
func (l *Ledger) promptCells(m member) (fresh, cached float64) {
	r := l.req(m.req)
	if !r.known {
		return float64(r.guess) * m.part, 0
	}
	return float64(r.prompt-r.cached) * m.part, float64(r.cached)
}

// poolTerms are the regressors of a member's work among the others in its pool. In a shared cache a token
// attends to all earlier tokens, those of other requests too; each of the two pays half of that.
func (l *Ledger) poolTerms(m member, p *pool) [unknowns]float64 {
	t := l.promptTerms(m)
	if l.req(m.req).group.sharing == sharedCache {
		fresh, cached := l.promptCells(m)
		t[coefPosition] += (fresh*(p.freshTokens-fresh+p.cachedTokens-cached) + cached*(p.freshTokens-fresh)) / 2000
	}
	return t
}

func (l *Ledger) poolWork(m member, p *pool) float64 {
	return dot(l.poolTerms(m, p), l.req(m.req).group.model.prefill.coef)
}

// learnPool learns the prompt coefficients from a pool without guesses.
func (l *Ledger) learnPool(p *pool) {
	drawn := float64(p.uj)
	if l.cfg.Frozen || p.guessed || p.contended || p.beforeBaseline || drawn <= 0 || len(p.members) == 0 {
		return
	}
	g := l.req(p.members[0].req).group
	var x [unknowns]float64
	for _, m := range p.members {
		r := l.req(m.req)
		if !r.known || r.group != g || r.first == 0 {
			return
		}
		t := l.poolTerms(m, p)
		for k := range x {
			x[k] += t[k]
		}
	}
	if x[coefToken] < 64 {
		return // mostly the fixed cost of a step
	}
	edge := l.allocator.prefillMW() * l.src.edgeError() * 1e-6
	rel := math.Hypot(edge, g.model.decode.relError()*p.decodeCost) / drawn
	g.model.prefill.observe(x, drawn, rel)
}
