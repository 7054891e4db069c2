package energy

import "math"

// pool collects the active joules of prefills that overlap. A server batches such prompts together, and
// says how many tokens each had only when its reply ends, so nothing finer can be known meanwhile. When
// the last member's count is known the pool is divided by the modelled work of each.
type pool struct {
	members []member
	uj      int64
	alone   bool    // never more than one member
	mixed   int64   // uJ that decoders were given in the same windows
	cost    float64 // modelled cost of their steps, as if alone
	fresh   float64 // new tokens of all members, and cached ones, while the pool is divided
	cached  float64
	edge2   float64 // variance of the pool's edges
	opened  int64
	closed  int64
	inside  int // members still in prefill
	unknown int // members whose counts are not known
	guessed bool
	raw     bool // the idle draw was not known, so part of it is in here
	extra   bool // part of it was measured while the device was contended or unsampled
}

// maxPools is the most undivided pools that one request can have a part in: one is closed at most every
// settle_max, and is divided at most settle_max later.
const maxPools = 4

// place is where a request stands in a pool.
type place struct{ pool, index int }

// waitingPool is a closed pool that lacks a count; pools are reused, so it names the one meant by its
// times.
type waitingPool struct {
	pool           int
	opened, closed int64
}

// member is a request in a pool.
type member struct {
	req  int32
	cut  bool    // the pool was closed before its prefill was over
	part float64 // of its prompt, worked off in this pool; found when the pool is divided
}

// joinPool adds request i to the open pool, or opens one. A pool that has been open for settle_max is
// closed first: its members go on in a new one, and each pool later gets a part of their work (apportion).
func (l *Ledger) joinPool(i int32, now int64) {
	b := &l.back
	if b.pool >= 0 && now-b.pools[b.pool].opened > int64(l.cfg.SettleMax) {
		l.rotatePool(now)
	}
	if b.pool < 0 {
		l.openPool(now)
	}
	l.addMember(i)
}

func (l *Ledger) openPool(now int64) {
	b := &l.back
	if n := len(b.freePools); n > 0 {
		b.pool = b.freePools[n-1]
		b.freePools = b.freePools[:n-1]
	} else {
		b.pools = append(b.pools, pool{})
		b.pool = len(b.pools) - 1
	}
	p := &b.pools[b.pool]
	*p = pool{members: p.members[:0], opened: now, alone: true}
}

func (l *Ledger) addMember(i int32) {
	b := &l.back
	p := &b.pools[b.pool]
	r := l.req(i)
	if r.pools == maxPools { // cannot be while rotation is rarer than settle_max
		r.estimated = true
		return
	}
	r.in[r.pools] = place{pool: b.pool, index: len(p.members)}
	r.pools++
	p.members = append(p.members, member{req: i})
	p.inside++
	if !r.known {
		p.unknown++
	}
	p.alone = len(p.members) == 1
}

// rotatePool closes the open pool and opens another for those still in prefill.
func (l *Ledger) rotatePool(now int64) {
	b := &l.back
	old := b.pool
	b.pool = -1
	l.openPool(now)
	for k := range b.pools[old].members {
		if m := &b.pools[old].members[k]; l.req(m.req).phase == prefilling {
			m.cut = true
			l.addMember(m.req)
		}
	}
	b.pools[old].guessed, b.pools[b.pool].guessed = true, true
	l.closePool(old, now)
}

// leavePool ends request i's prefill.
func (l *Ledger) leavePool(i int32, now int64) {
	b := &l.back
	r := l.req(i)
	if b.pool < 0 || r.pools == 0 || r.in[r.pools-1].pool != b.pool {
		return
	}
	p := &b.pools[b.pool]
	if p.inside--; p.inside == 0 {
		l.closePool(b.pool, now)
		b.pool = -1
	}
}

func (l *Ledger) closePool(n int, now int64) {
	b := &l.back
	p := &b.pools[n]
	p.inside, p.closed = 0, now
	if p.unknown == 0 {
		b.knownPools = append(b.knownPools, n)
		return
	}
	b.waitingPools.push(waitingPool{n, p.opened, now})
}

// countsKnown tells request i's pools that its prompt is known, or never will be (it is guessed then).
func (l *Ledger) countsKnown(i int32) {
	b := &l.back
	r := l.req(i)
	for _, at := range r.in[:r.pools] {
		p := &b.pools[at.pool]
		if p.unknown--; p.unknown == 0 && p.closed > 0 {
			b.knownPools = append(b.knownPools, at.pool)
		}
	}
}

// dividePools divides the closed pools whose members are all known, or that have waited long enough.
func (l *Ledger) dividePools(now int64) {
	b := &l.back
	for w := &b.waitingPools; w.len() > 0; w.pop() {
		o := w.at(0)
		p := &b.pools[o.pool]
		if p.closed != o.closed || p.opened != o.opened || p.unknown == 0 {
			continue // divided already, or about to be
		}
		if now-o.closed <= int64(l.cfg.SettleMax) {
			break
		}
		b.knownPools = append(b.knownPools, o.pool)
		p.unknown = 0
		w.pop()
		break
	}
	for k := 0; k < len(b.knownPools); k++ {
		n := b.knownPools[k]
		l.dividePool(n)
		b.freePools = append(b.freePools, n)
	}
	b.knownPools = b.knownPools[:0]
}

func (l *Ledger) dividePool(n int) {
	b := &l.back
	p := &b.pools[n]
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
		b.residual(p.uj - most)
		p.uj = most
	}
	left := p.uj
	for _, m := range p.members {
		r := l.req(m.req)
		if whole > 0 {
			part := l.poolWork(m, p) / whole
			uj := min(int64(float64(p.uj)*part+1e-6), left)
			r.prefillUJ += uj
			left -= uj
			// The others in the pool, or the decoders beside it, could have caused so much of it.
			r.contested += float64(uj)*(1-part) + min(float64(uj), float64(p.mixed)*part)
			r.edge2 += p.edge2 * part * part
			r.model2 += l.divisionVariance(m, p, part, whole, sum)
		}
		r.estimated = r.estimated || !r.known || p.guessed
		r.forget(n)
	}
	b.residual(left)
	b.given.active += p.uj - left
	l.learnPool(p)
	p.uj, p.closed = 0, 0
	for k := range p.members {
		l.finish(p.members[k].req)
	}
}

// apportion finds what part of its prompt each member worked off in the pool: all that it had not in an
// earlier one; of those that were not through when the pool was closed, the first to come is served first,
// as far as the pool's energy goes.
func (l *Ledger) apportion(p *pool) {
	rest := float64(p.uj)
	for k := range p.members {
		m := &p.members[k]
		r := l.req(m.req)
		m.part = 1 - r.paid
		if !m.cut {
			rest -= l.promptWork(*m)
		}
	}
	for k := range p.members {
		m := &p.members[k]
		r := l.req(m.req)
		if work := l.promptWork(*m); m.cut && work > 0 {
			m.part *= min(max(rest, 0)/work, 1)
			rest -= work
		}
		r.paid += m.part
	}
}

// boundPool is the most that the modelled work of a pool explains; the rest of the draw is another
// process's.
func (l *Ledger) boundPool(p *pool, whole float64) int64 {
	fit := l.req(p.members[0].req).group.model.prefill
	switch {
	case whole <= 0 || !fit.learnt() || p.guessed:
	case p.extra:
		return int64(whole * (1 + fit.rho()))
	case fit.observed >= bandMin:
		return int64(whole * band)
	}
	return math.MaxInt64
}

// forget takes a divided pool off the request's list.
func (r *request) forget(pool int) {
	for k := range r.pools {
		if r.in[k].pool == pool {
			copy(r.in[k:], r.in[k+1:r.pools])
			r.pools--
			return
		}
	}
}

// divisionVariance is the variance of a member's part that comes from the coefficients' own: of the prompt
// terms in which it differs from its pool, whose sum is sum, and of what the decoding beside the pool costs.
func (l *Ledger) divisionVariance(m member, p *pool, part, whole float64, sum [unknowns]float64) float64 {
	model := l.req(m.req).group.model.prefill
	x := l.poolTerms(m, p)
	for i := range x {
		x[i] = (x[i] - part*sum[i]) * float64(p.uj) / whole
	}
	beside := besideRel * p.cost * part
	return model.variance(x) + beside*beside
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
	return dot(l.promptTerms(m), l.req(m.req).group.model.prefill.theta)
}

// countCells sums the members' tokens.
func (l *Ledger) countCells(p *pool) {
	p.fresh, p.cached = 0, 0
	for _, m := range p.members {
		fresh, cached := l.promptCells(m)
		p.fresh += fresh
		p.cached += cached
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

// poolTerms are the regressors of a member's work beside the others in its pool. In a shared cache the
// later of two tokens passes over the earlier, whoever's it is: each side bears half of that.
func (l *Ledger) poolTerms(m member, p *pool) [unknowns]float64 {
	t := l.promptTerms(m)
	if l.req(m.req).group.sharing == sharedCache {
		fresh, cached := l.promptCells(m)
		t[coefPosition] += (fresh*(p.fresh-fresh+p.cached-cached) + cached*(p.fresh-fresh)) / 2000
	}
	return t
}

func (l *Ledger) poolWork(m member, p *pool) float64 {
	return dot(l.poolTerms(m, p), l.req(m.req).group.model.prefill.theta)
}

// learnPool teaches the prompt model from a pool that is free of guesses: what was drawn in its windows,
// against the prompts' work and the decoding beside it.
func (l *Ledger) learnPool(p *pool) {
	drawn := float64(p.uj)
	if l.cfg.Frozen || p.guessed || p.extra || p.raw || drawn <= 0 || len(p.members) == 0 {
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
		return // the fixed cost of a step, not of its tokens
	}
	edge := l.back.prefillMW() * l.src.edge() * 1e-6
	rel := math.Hypot(edge, g.model.decode.rho()*p.cost) / drawn
	g.model.prefill.observe(x, drawn, rel)
}
