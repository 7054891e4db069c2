package energy

import "math"

// account holds energy that several members own together and have not drawn yet. A member's share is the
// difference of a running sum between its joining and its leaving, so adding energy costs the same however
// many members there are. Shares are rounded down, so identical members draw identical amounts; the
// remainder goes to the residual when the last member has left.
type account struct {
	balance int64
	share   float64 // uJ that a member present from the start would own
}

// addEqually adds uj, of which n members own equal parts.
func (p *account) addEqually(uj int64, n int) {
	p.balance += uj
	p.share += float64(uj) / float64(n)
}

// take draws a share, at most what is there.
func (p *account) take(share float64) int64 {
	v := min(int64(math.Floor(max(share, 0)+1e-6)), p.balance)
	p.balance -= v
	return v
}

// empty returns the remainder when the last member has left.
func (p *account) empty() int64 {
	v := p.balance
	*p = account{}
	return v
}

// runningSums grow with every window. A request keeps a snapshot of them from when it began.
type runningSums struct {
	waitingIdle, waitingTime float64
	slotIdle, slotTime       float64
	deviceUJ                 float64 // energy of the whole device
	contended, gap           int64   // ns during which another process computed, and ns without power samples
	shared                   int64   // ns during which several held a slot
	metered                  int64   // ns for which energy was measured
	lost                     int     // windows without energy, and losses of the device
	unseenUJ                 float64 // of the whole device, as modelled, while its energy was not known
	shapelessUJ              float64 // of the whole device, while only the sum of a longer time was known
	edgeVar                  float64 // uJ^2 of edges of prefills, a decoder
	duringPrefill            float64 // uJ of modelled decoding while a request prefilled, a decoder
}

// simpleRules are the shares that do not depend on the kind of work: the idle draw, and the two simple
// rules kept for comparison.
//
//   - idle: equally by time among requests that hold a slot; if none does, among those in flight. What falls to a request
//     that the server refuses is nobody's.
//   - time: everything drawn, divided like the idle draw.
//   - token: everything drawn while requests are in flight goes into one account. At its end a request
//     draws the fraction that its tokens are of all tokens that requests in flight have processed.
type simpleRules struct {
	waitingIdle, waitingTime account
	slotIdle, slotTime       account
	tokenAccount             int64
	liveTokens               int64
}

// divideEqually divides a window's idle draw and its whole energy, if anybody is in flight.
func (u *simpleRules) divideEqually(idle, all int64, inFlight, holding int) {
	switch {
	case holding > 0:
		u.slotIdle.addEqually(idle, holding)
		u.slotTime.addEqually(all, holding)
	case inFlight > 0:
		u.waitingIdle.addEqually(idle, inFlight)
		u.waitingTime.addEqually(all, inFlight)
	}
	if inFlight > 0 {
		u.tokenAccount += all
	}
}

// countTokens adds tokens that a request in flight has processed.
func (u *simpleRules) countTokens(r *request, n int64) {
	r.tokens += n
	u.liveTokens += n
}

// drawTokens charges a request that ends, with tokens processed, by the token rule.
func (u *simpleRules) drawTokens(r *request, tokens int64) {
	u.countTokens(r, tokens-r.tokens)
	if u.liveTokens > 0 {
		r.tokenUJ = int64(float64(u.tokenAccount) * (float64(r.tokens) / float64(u.liveTokens)))
		r.tokenUJ = min(r.tokenUJ, u.tokenAccount)
		u.tokenAccount -= r.tokenUJ
	}
	u.liveTokens -= r.tokens
}
