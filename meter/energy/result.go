package energy

// Quality says how far a result can be trusted: the first of these that applies, in this order.
type Quality uint8

const (
	Unavailable     Quality = iota // no energy was measured during the request
	Partial                        // energy is missing for a part of it: counter reset, device lost, shutdown
	BelowResolution                // 1.96 sigma is at least the value
	IsContended                    // another process computed on the device during it
	Estimated                      // phases or token counts were guessed, or it was alone and sigma exceeds 5 %
	Shared                         // other requests held slots at the same time
	Measured                       // it was alone
)

var qualityNames = [...]string{"unavailable", "partial", "below_resolution", "contended", "estimated", "shared", "measured"}

func (q Quality) String() string { return qualityNames[q] }

// Result is the final account of one request on one device, in microjoules.
type Result struct {
	Request uint64
	Quality Quality
	Source  string // ring, counter or average

	// TotalUJ is ActiveUJ + IdleUJ. Where Quality is BelowResolution it is only an estimate; where Split is
	// false the device's idle draw is not known yet, and only TotalUJ is.
	TotalUJ   int64
	Split     bool
	ActiveUJ  int64 // PrefillUJ + DecodeUJ
	IdleUJ    int64 // while it held a slot, and WaitingUJ
	WaitingUJ int64 // the part of IdleUJ from before it had a slot
	PrefillUJ int64
	DecodeUJ  int64

	SigmaUJ       int64 // standard error of TotalUJ
	ActiveSigmaUJ int64 // standard error of ActiveUJ

	TimeUJ  int64 // by the time rule
	TokenUJ int64 // by the token rule

	Abandoned bool // its client left, and the server may have worked for it afterwards

	SlotNS int64 // how long it held a slot
	MeanMW int64 // mean power of the whole device during that time; 0 where SlotNS is 0
}

// measuredSigma is the largest relative sigma of a value called measured.
const measuredSigma = 0.05

// result makes the result of a request that has ended.
func (l *Ledger) result(r *request) Result {
	alloc := &l.allocator
	res := Result{
		Request: r.key, Source: l.cfg.Shape.String(), Split: alloc.idle.learnt(),
		PrefillUJ: r.prefillUJ, DecodeUJ: r.decodeUJ, IdleUJ: r.idleUJ, WaitingUJ: r.waitingUJ,
		TimeUJ: r.timeUJ, TokenUJ: r.tokenUJ, Abandoned: r.orphaned, SlotNS: r.slotNS, MeanMW: r.meanMW,
	}
	res.ActiveUJ = res.PrefillUJ + res.DecodeUJ
	res.TotalUJ = res.ActiveUJ + res.IdleUJ
	res.ActiveSigmaUJ, res.SigmaUJ = l.standardErrors(r, &res)
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
// Energy of a request counts as such from the moment its window is settled, whether it has a result or not.
// Only the energy of overlapping prefills waits in Pools.
type Balance struct {
	Opened  int64 // stamp in ns: when the account opened
	Settled int64 // stamp in ns: everything drawn before it has been divided; 0 before the first window

	Counter        int64 // the counter's delta since the account opened
	RequestsActive int64
	RequestsIdle   int64
	Pools          int64 // 0 if no prefill waits for token counts of overlapping ones
	Idle           int64 // with nothing in flight
	Residual       int64 // charged to no request while requests were in flight
	Pending        int64 // read, but not divided yet

	// What results have shown so far, by rule. The phase rule's sum is also in the account above.
	Phase, Time, Token int64
}

// Balance returns the account as it stands.
func (l *Ledger) Balance() Balance {
	alloc := &l.allocator
	v := Balance{
		Opened: l.src.begin, Settled: alloc.settled, Counter: l.src.total,
		RequestsActive: alloc.charged.active,
		RequestsIdle:   alloc.charged.idle + alloc.waitingIdle.balance + alloc.slotIdle.balance,
		Idle:           alloc.idleUJ, Residual: alloc.residualUJ,
		Phase: alloc.inResults.active + alloc.inResults.idle, Time: alloc.inResults.time, Token: alloc.inResults.token,
	}
	for _, g := range l.busyGroups {
		v.RequestsActive += g.account.balance
	}
	for i := range alloc.pools {
		v.Pools += alloc.pools[i].uj
	}
	v.Pending = alloc.distributed + l.src.total - l.src.handed
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
	s := l.allocator.stats
	s.ForgottenPrefills, s.EarlyAverageCells = l.segmenter.forgotten, l.src.average.dropped
	return s
}
