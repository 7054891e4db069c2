package energy

import "math"

// pot holds energy that several members own and have not drawn yet. Shares are differences of a running
// sum, so adding costs the same however many members there are. Shares are rounded down: identical
// members draw identical amounts, and what rounding leaves goes to the residual when the pot empties.
type pot struct {
	balance int64
	sum     float64 // microjoules that a member present from the start would own
}

// add spreads uj alike over n members.
func (p *pot) add(uj int64, n int) {
	p.balance += uj
	p.sum += float64(uj) / float64(n)
}

// take draws a share.
func (p *pot) take(share float64) int64 {
	v := min(int64(math.Floor(max(share, 0)+1e-6)), p.balance)
	p.balance -= v
	return v
}

// empty returns what is left when the last member has gone.
func (p *pot) empty() int64 {
	v := p.balance
	*p = pot{}
	return v
}

// marks are the running sums at the moment when a request joined.
type marks struct {
	flightIdle, flightTime float64
	holdIdle, holdTime     float64
	power                  float64 // energy of the whole device
	contended, gap         int64   // ns
	shared                 int64   // ns during which several held a slot
	metered                int64   // ns for which energy was measured
	lost                   int
	edge2                  float64
	beside                 float64 // uJ of modelled decoding beside a prefill, a decoder
}

// rules are the shares that do not depend on the kind of work: the idle draw, and the two simple rules
// that are kept for comparison.
//
//   - idle: alike per unit of time among requests that hold a slot; if none does, among those in flight.
//   - time: everything drawn, divided like the idle draw.
//   - token: everything drawn while requests are in flight goes into one pot, from which a request draws
//     at its end by its part of the tokens that live requests have processed.
type rules struct {
	flightIdle, flightTime pot
	holdIdle, holdTime     pot
	tokenPot               int64
	liveTokens             int64
}

// spread divides a window's idle draw and its whole energy; nobody is in flight: nothing is spread.
func (u *rules) spread(idle, all int64, inFlight, holding int) {
	switch {
	case holding > 0:
		u.holdIdle.add(idle, holding)
		u.holdTime.add(all, holding)
	case inFlight > 0:
		u.flightIdle.add(idle, inFlight)
		u.flightTime.add(all, inFlight)
	}
	if inFlight > 0 {
		u.tokenPot += all
	}
}

// countTokens adds tokens that a live request has processed.
func (u *rules) countTokens(r *request, n int64) {
	r.tokens += n
	u.liveTokens += n
}

// drawTokens draws the token rule's share of a request that ends with so many tokens.
func (u *rules) drawTokens(r *request, tokens int64) {
	u.countTokens(r, tokens-r.tokens)
	if u.liveTokens > 0 {
		r.tokenUJ = int64(float64(u.tokenPot) * (float64(r.tokens) / float64(u.liveTokens)))
		r.tokenUJ = min(r.tokenUJ, u.tokenPot)
		u.tokenPot -= r.tokenUJ
	}
	u.liveTokens -= r.tokens
}
