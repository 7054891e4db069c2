package energy

// Quality says how far a result can be trusted; the first that applies, in this order.
type Quality uint8

const (
	Unavailable     Quality = iota // no energy was measured during the request
	Partial                        // a part of it was not: counter reset, device lost, shutdown
	BelowResolution                // 1.96 sigma reach the value
	IsContended                    // another process computed on the device meanwhile
	Estimated                      // phases or token counts were guessed, or sigma exceeds 5 % alone
	Shared                         // other requests held slots meanwhile
	Measured                       // it was alone
)

var qualityNames = [...]string{"unavailable", "partial", "below_resolution", "contended", "estimated", "shared", "measured"}

func (q Quality) String() string { return qualityNames[q] }

// Result is the final account of one request on one device, in microjoules.
type Result struct {
	Request uint64
	Quality Quality
	Source  string // ring, counter or average

	// TotalUJ is what the request is charged: ActiveUJ + IdleUJ. Where Quality is BelowResolution it is
	// an estimate only; where Split is false the device's idle draw is not known yet, only TotalUJ is.
	TotalUJ   int64
	Split     bool
	ActiveUJ  int64 // PrefillUJ + DecodeUJ
	IdleUJ    int64
	PrefillUJ int64
	DecodeUJ  int64

	SigmaUJ       int64 // standard error of TotalUJ
	ActiveSigmaUJ int64 // standard error of ActiveUJ

	TimeUJ  int64 // by the time rule
	TokenUJ int64 // by the token rule

	HoldNS int64 // how long it held a slot
	MeanMW int64 // mean power of the whole device meanwhile; 0 where HoldNS is 0
}

// measuredSigma is the largest relative sigma of a value called measured.
const measuredSigma = 0.05

// result makes the account of a request that is over.
func (l *Ledger) result(r *request) Result {
	b := &l.back
	res := Result{
		Request: r.key, Source: l.cfg.Shape.String(), Split: b.idle.learnt(),
		PrefillUJ: r.prefillUJ, DecodeUJ: r.decodeUJ, IdleUJ: r.idleUJ,
		TimeUJ: r.timeUJ, TokenUJ: r.tokenUJ, HoldNS: r.holdNS, MeanMW: r.meanMW,
	}
	res.ActiveUJ = res.PrefillUJ + res.DecodeUJ
	res.TotalUJ = res.ActiveUJ + res.IdleUJ
	res.ActiveSigmaUJ, res.SigmaUJ = l.sigma(r, &res)
	res.Quality = quality(r, &res)
	return res
}

func quality(r *request, res *Result) Quality {
	switch {
	case r.unmetered:
		return Unavailable
	case r.partial:
		return Partial
	case 1.96*float64(res.SigmaUJ) >= float64(res.TotalUJ):
		return BelowResolution
	case r.contended:
		return IsContended
	case r.estimated:
		return Estimated
	case r.shared:
		return Shared
	case float64(res.SigmaUJ) > measuredSigma*float64(res.TotalUJ):
		return Estimated
	}
	return Measured
}

// Balance is the ledger's account, in microjoules. Always, exactly:
//
//	Counter = RequestsActive + RequestsIdle + Pools + Idle + Residual + Pending
//
// What a request owns counts as its own from the window it was drawn in, whether it has its result yet
// or not; only the prefills that share a pool wait in Pools for the pool to be divided.
type Balance struct {
	Settled int64 // ns: everything drawn before is in the account; 0 before the first window

	Counter        int64 // the counter's delta since the account opened
	RequestsActive int64
	RequestsIdle   int64
	Pools          int64 // 0 whenever no prefill waits for its neighbours' token counts
	Idle           int64 // with nothing in flight
	Residual       int64 // draw that no request is charged with
	Pending        int64 // read, but not settled yet

	// What results have been given so far, by rule: the phase rule's sum is also in the account above.
	Phase, Time, Token int64
}

// Balance returns the account as it stands.
func (l *Ledger) Balance() Balance {
	b := &l.back
	v := Balance{
		Settled: b.settled, Counter: l.src.total,
		RequestsActive: b.given.active,
		RequestsIdle:   b.given.idle + b.flightIdle.balance + b.holdIdle.balance,
		Idle:           b.idleUJ, Residual: b.residualUJ,
		Phase: b.results.active + b.results.idle, Time: b.results.time, Token: b.results.token,
	}
	for _, g := range l.busy {
		v.RequestsActive += g.pot.balance
	}
	for i := range b.pools {
		v.Pools += b.pools[i].uj
	}
	v.Pending = b.poured + l.src.total - l.src.handed
	return v
}

// Stats counts, since the ledger was made, what a limit made it handle less exactly or not at all. No
// counter ever falls.
type Stats struct {
	UnknownEvents      int64 // events of requests that are not in flight; they were ignored
	LateEvents         int64 // events older than the time already divided; they were moved to its end
	UnqueuedDecodes    int64 // Decode events ignored because the queue of events was full
	ForgottenPrefills  int64 // stretches of prefill forgotten before their energy came, as too many waited
	EarlyAverageCells  int64 // parts of a moving average released early, as too many readings cover one length
	UpstreamsOverLimit int64 // upstreams beyond MaxUpstreams that sent requests; they share the last one's coefficients
}

// Stats returns the counters. Read them after Advance.
func (l *Ledger) Stats() Stats {
	s := l.back.stats
	s.ForgottenPrefills, s.EarlyAverageCells = l.front.dropped, l.src.average.dropped
	return s
}
