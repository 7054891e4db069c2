package gpu

import "time"

// What is polled how often. Each group has its own price, so each has its own pace.
const (
	tailNs        = 2e9   // stay fast for so long after the last request
	idlePollNs    = 200e6 // polled power while nothing is in flight
	maxBufferPoll = 1e9
	statusBusyNs  = 1e9
	statusIdleNs  = 2e9
	procsBusyNs   = 500e6
	procsIdleNs   = 2e9
	procsDearBusy = 10e9 // the same where a list is dear
	procsDearIdle = 30e9
	procsPart     = 5000 // lists may take one part in so many of the time
	startNs       = 15e9 // of an epoch, in which the samples are proved against the counter
	idleReadNs    = 4e9  // of the counter; below rowPatienceNs and counterSpeaksNs

	recordedReadNs  = 25e6 // a quarter of an H100's tick
	recordingBudget = 0.2
)

// paceInputs holds the inputs of the pace.
type paceInputs struct {
	busy         bool
	recording    bool // reads are written down: more of them are worth their price
	profile      Channel
	profileStep  int64         // ns
	bufferSpan   int64         // ns, how much of the past the buffer holds
	tickPeriod   int64         // ns, 0 where the counter moves all the time
	energyCost   time.Duration // CPU time of one read of the counter
	procsCost    int64         // ns that one list of the processes takes
	budget       float64       // share of one core that reads may cost
	extra        extraReads    // which reads sooner than the regular pace can be paid for
	starting     bool          // the epoch is young: reads that prove the samples come every second whatever they cost
	needsCounter bool          // see Trace.needsCounter
}

// interval returns how often to ask for one group, in ns; 0 means not on its own.
func (f paceInputs) interval(w Metrics) int64 {
	pick := func(busy, idle int64) int64 {
		if f.busy {
			return busy
		}
		return idle
	}
	switch w {
	case MetricEnergy:
		// Where samples give the profile, the counter only has to say how much it was; where it is all
		// there is, every read is a sample.
		if f.recording { // whatever is in flight: what is quiet is measured too
			return min(max(recordedReadNs, int64(float64(f.energyCost)/recordingBudget)), 100e6)
		}
		least, most, idle := int64(200e6), int64(1e9), int64(1e9)
		switch f.profile {
		case ChannelCounter:
			least = 20e6
		case ChannelBuffer: // it scales the samples; their sum is right by itself within a few tenths of a percent
			least, most, idle = 1e9, 2500e6, idleReadNs
			if f.needsCounter {
				idle = least
				if f.starting {
					return least
				}
			}
		}
		paid := int64(float64(f.energyCost) / (f.budget * (1 - extraShare)))
		least = max(least, f.tickPeriod)
		return pick(min(max(least, paid), most), min(max(idle, paid), idleReadNs))
	case MetricBuffer:
		return pick(min(maxBufferPoll, f.bufferSpan*2/5), min(2*maxBufferPoll, f.bufferSpan*7/10))
	case MetricPower:
		if f.profile == ChannelInstant || f.profile == ChannelAverage {
			return pick(min(max(f.profileStep/4, 10e6), 100e6), min(max(f.profileStep, idlePollNs), 1e9))
		}
		return pick(statusBusyNs, statusIdleNs)
	case MetricStatus:
		return pick(statusBusyNs, statusIdleNs)
	case MetricProcesses:
		paid := f.procsCost * procsPart
		return pick(min(max(procsBusyNs, paid), procsDearBusy), min(max(procsIdleNs, paid), procsDearIdle))
	}
	return 0
}

// pacer says what is due.
type pacer struct {
	supported Metrics
	due       [5]int64 // by bit of Metrics
	listed    int64    // when the processes were last listed
	early     bool     // the next read of the counter is sooner than its pace has it
}

// groups calls f for every group in w.
func (w Metrics) groups(f func(i int, g Metrics)) {
	for i := range 5 {
		if g := Metrics(1 << i); w&g != 0 {
			f(i, g)
		}
	}
}

// start makes everything due.
func (p *pacer) start(supported Metrics, now int64) {
	p.supported = supported
	for i := range p.due {
		p.due[i] = now
	}
}

// take returns those of groups that are due at now, and when the next one is if there is none.
func (p *pacer) take(groups Metrics, now int64) (w Metrics, next int64) {
	next = now + procsIdleNs
	groups &= p.supported
	groups.groups(func(i int, g Metrics) {
		if p.due[i] <= now {
			w |= g
		}
		next = min(next, p.due[i])
	})
	return w, next
}

// done sets when the groups of w are due again. The counter's edges choose the moment of a read.
func (p *pacer) done(w Metrics, now int64, f paceInputs, edges *edgeTracker) {
	w.groups(func(i int, g Metrics) {
		p.due[i] = now + f.interval(g)
		if g == MetricProcesses {
			p.listed = now
		}
		if g == MetricEnergy && !f.recording {
			regular := p.due[i]
			p.due[i] = edges.next(now, regular, f.extra)
			p.early = p.due[i] < regular && !edges.nextIsRegular
		}
	})
}

// bringForward brings forward what is due later than the pace of f allows: a request came in.
func (p *pacer) bringForward(now int64, f paceInputs) {
	p.supported.groups(func(i int, g Metrics) {
		if p.due[i] = min(p.due[i], now+f.interval(g)); g == MetricProcesses && f.interval(g) == procsBusyNs {
			p.due[i] = min(p.due[i], max(now, p.listed+procsBusyNs)) // another process may have begun meanwhile
		}
		if g == MetricPower && f.profile != ChannelBuffer {
			p.due[i] = now
		}
	})
}
