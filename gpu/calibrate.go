package gpu

import (
	"fmt"
	"math"
	"slices"
	"time"

	"wattline/meter"
)

// learner finds out about a device's channels while it is sampled: periods by a short probe after the
// device was opened, lags from the requests that come by, and whether counter and samples agree.
type learner struct {
	supported   Metrics
	learnt      map[Channel]*Calibration
	edges       edgeTracker
	lastSampled Tick // the last step that became a sample, where the counter gives the profile

	probing    bool
	probe      probe
	probes     int
	probeAgain int64 // when to probe once more, because the machine was too busy; 0: never

	budget  float64       // share of a core that reads of the counter may cost
	extra   time.Duration // what reads beyond the regular pace may still cost
	extraAt int64         // when that was last added to

	profile    Channel
	bufferSpan int64 // how much of the past the buffer is taken to hold
	bufferLast int64
	energyCost time.Duration

	demoted   map[Channel]string // reason
	suspended []Channel          // the channels that retryAt is about
	retryAt   int64              // when channels whose integral did not follow the counter get another chance; 0: none waits
	retryGap  int64              // how long the last one waited
	demotions int
	disputed  bool
	agreement meter.Int

	lags        []int64 // of the profile, the latest last
	lagUntil    int64   // the end of the window that the latest was found in
	nextAttempt int64
	attempts    int
}

const (
	probeAgainNs = 40e9 // by then a sixth of the budget has paid for a part of a probe
	mostProbes   = 10

	learnEveryNs  = 10e9
	relearnNs     = 60e9
	lagAgreeNs    = 30e6
	eagerAttempts = 12 // so often every ten seconds, then every minute even if nothing was learnt
	learnWindowNs = 40e9

	agreeWithin   = 0.08 // a larger difference between counter and samples is a dispute
	agreeRmsS     = 0.3  // seconds of mean power that following the profile may be off
	stillAtLeast  = 5e9  // a counter that stands still for so long while power flows is frozen
	cheapReadTime = 60 * time.Microsecond

	fullBufferNs = 2.4e9 // what an H100's buffer holds; a smaller one shows by a gap
)

// begin starts with a device that was just opened. What was learnt of it before stays, only what did not
// agree gets another chance.
func (l *learner) begin(info Info) {
	was, lags, period, maxGap := l.learnt, l.lags, l.edges.period, l.edges.maxGap
	*l = learner{
		supported: info.Supported, learnt: map[Channel]*Calibration{}, demoted: map[Channel]string{}, demotions: l.demotions,
		energyCost: l.energyCost, budget: l.budget, extra: l.extra, extraAt: l.extraAt,
	}
	for c, e := range info.Expected {
		l.learnt[c] = &Calibration{StepNs: e.StepNs, WindowNs: e.WindowNs, LagNs: e.LagNs}
		if old := was[c]; old != nil {
			l.learnt[c] = old
		}
	}
	l.edges.period, l.edges.maxGap = period, maxGap
	l.choose()
	if was == nil && info.Supported&(MetricEnergy|MetricPower) != 0 {
		l.beginProbe()
	}
	l.lags = lags
}

// channel returns what is known of c.
func (l *learner) channel(c Channel) Calibration {
	if v := l.learnt[c]; v != nil {
		return *v
	}
	return Calibration{}
}

func (l *learner) ensure(c Channel) *Calibration {
	if l.learnt[c] == nil {
		l.learnt[c] = &Calibration{}
	}
	return l.learnt[c]
}

// choose takes the finest channel that is offered and not demoted. A counter that costs next to
// nothing can be read so often that it is finer than polled power, and it is exact.
func (l *learner) choose() {
	was := l.profile
	has := func(w Metrics, c Channel) bool { return l.supported&w != 0 && l.demoted[c] == "" && l.learnt[c] != nil }
	cheap := l.energyCost > 0 && l.energyCost < cheapReadTime && l.edges.period.hi < 50e6
	switch {
	case has(MetricBuffer, ChannelBuffer):
		l.profile = ChannelBuffer
	case has(MetricEnergy, ChannelCounter) && cheap:
		l.profile = ChannelCounter
	case has(MetricPower, ChannelInstant):
		l.profile = ChannelInstant
	case has(MetricPower, ChannelAverage):
		l.profile = ChannelAverage
	case has(MetricEnergy, ChannelCounter):
		l.profile = ChannelCounter
	default:
		l.profile = ""
	}
	if was != l.profile {
		l.lags = l.lags[:0]
		l.disputed, l.agreement = false, meter.Int{}
	}
}

// probeOver ends the probe in its time, and works out what it has shown.
func (l *learner) probeOver(now int64) bool {
	if !l.probing || !l.probe.over(now) {
		return false
	}
	l.probing = false
	p := &l.probe
	if l.supported&MetricEnergy != 0 {
		switch {
		case p.found() && !p.failed:
			l.edges.maxGap = 0
			l.edges.setPeriod(p.period)
			l.ensure(ChannelCounter).StepNs = p.period.mid()
			for i := range p.reads {
				l.edges.observe(&p.reads[i])
			}
		case p.movesEveryRead():
			l.edges.maxGap = longestGap(p.reads)
		case l.probes < mostProbes:
			l.probeAgain = now + probeAgainNs
		}
	}
	if l.profile == ChannelInstant || l.profile == ChannelAverage { // watched closely enough to tell
		for c, seen := range map[Channel]*changes{ChannelInstant: &p.instant, ChannelAverage: &p.average} {
			if step := seen.step(); step > 0 && l.learnt[c] != nil {
				l.learnt[c].StepNs = step
			}
		}
	}
	l.probe = probe{}
	l.probes++
	l.choose()
	return true
}

// beginProbe starts to find out how often the channels update.
func (l *learner) beginProbe() {
	l.probing, l.probeAgain = true, 0
	l.probe = newProbe(l.supported, l.profile, l.channel(ChannelCounter).StepNs)
}

// power takes polled values.
func (l *learner) power(r *Reading) {
	if l.probing {
		l.probe.power(r)
	}
}

// ampleReads is how many reads the account must pay for before any is made only to know the period better.
const ampleReads = 14

// startReads is how many reads the account pays for at first where they are dear: a probe and what keeps
// its period known until the samples are proved.
const startReads = 28

// extraReads returns which reads beyond the regular pace can be paid for.
func (l *learner) extraReads(now int64) extraReads {
	some := l.affords(now)
	return extraReads{some: some, ample: l.extra >= min(probeCPU/2, ampleReads*l.energyCost)}
}

// affords reports whether a read beyond the regular pace can be paid for.
func (l *learner) affords(now int64) bool {
	most := max(probeCPU, startReads*l.energyCost)
	if l.extraAt == 0 {
		l.extra = most
	} else {
		l.extra = min(most, l.extra+time.Duration(float64(now-l.extraAt)*l.budget*extraShare))
	}
	l.extraAt = now
	return l.extra > 0
}

// counterRead takes a read of the counter and places its step.
func (l *learner) counterRead(t *Tick) {
	l.edges.observe(t)
	if l.probing && l.probe.counter {
		l.probe.counterRead(*t, l.affords(t.After))
	}
	if p := l.edges.period; p.known() {
		l.ensure(ChannelCounter).StepNs = p.mid()
	}
}

// costs takes the CPU time of a read, and whether it came sooner than the regular pace.
func (l *learner) costs(cpu time.Duration, extra bool) {
	if extra {
		l.extra -= cpu
	}
	if l.energyCost == 0 {
		l.energyCost = cpu
	}
	weight := time.Duration(16)
	if cpu > l.energyCost {
		weight = 4 // a busy card's reads cost more, and the budget must hold at once
	}
	l.energyCost += (cpu - l.energyCost) / weight
}

// buffer takes what one fetch of the sample buffer returned.
func (l *learner) buffer(s []Sample) {
	v := l.learnt[ChannelBuffer]
	if len(s) < 2 {
		return
	}
	v.Depth = max(v.Depth, len(s))
	span := s[len(s)-1].At - s[0].At
	l.bufferSpan = max(l.bufferSpan, span)
	switch whole := l.bufferLast == 0 || s[0].At-l.bufferLast <= 2*v.StepNs; {
	case !whole: // all that the buffer held
		l.bufferSpan = span
	case l.bufferSpan < fullBufferNs: // perhaps it holds more: nothing was missed until now
		l.bufferSpan += span / 2
	}
	l.bufferLast = s[len(s)-1].At
	if len(s) >= 20 {
		v.StepNs = (s[len(s)-1].At - s[0].At) / int64(len(s)-1)
	}
}

// What a lag may be off. Once learnt that is small, but never less than what power itself takes to
// follow the load, which nothing here can tell from a channel's lag.
const (
	lagErrLearntNs = 15e6
	lagErrStampNs  = 30e6  // of timestamped samples before it is learnt
	lagErrTickNs   = 100e6 // of a counter
	lagErrPolledNs = 1e9   // of polled power: its window is not known
)

func lagErr(c Channel, v Calibration) int64 {
	switch {
	case v.LagLearnt:
		return lagErrLearntNs
	case c == ChannelBuffer:
		return lagErrStampNs
	case c == ChannelCounter:
		return lagErrTickNs
	}
	return lagErrPolledNs
}

func (l *learner) paceInputs() paceInputs {
	span := l.bufferSpan
	if span == 0 {
		span = 500e6
	}
	return paceInputs{
		profile: l.profile, profileStep: l.channel(l.profile).StepNs, bufferSpan: span,
		tickPeriod: l.edges.period.hi, energyCost: l.energyCost,
	}
}

// improve learns from the last minute, every ten seconds at first and every minute later. It returns a
// sentence when a channel was demoted or disputed.
func (l *learner) improve(now int64, t *Trace, loadOf func() load) (note string) {
	if l.probing {
		return ""
	}
	if l.probeAgain != 0 && now > l.probeAgain {
		l.beginProbe()
	}
	if l.retryAt != 0 && now > l.retryAt { // a pause of the whole machine looks like a channel that errs
		l.retryAt = 0
		for _, c := range l.suspended {
			delete(l.demoted, c)
		}
		l.suspended = l.suspended[:0]
		l.choose()
	}
	if note = l.frozen(t); note != "" || now < l.nextAttempt {
		return note
	}
	first := l.nextAttempt == 0
	l.nextAttempt = now + learnEveryNs
	if first {
		return ""
	}
	if c := l.channel(l.profile); (c.LagLearnt && l.agreement.Valid) || l.attempts > eagerAttempts {
		l.nextAttempt = now + relearnNs
	}
	l.attempts++
	l.learnLag(t, loadOf())
	return l.compare(t)
}

// learnLag learns how far the profile trails the load.
func (l *learner) learnLag(t *Trace, of load) {
	c := &t.c
	if len(c.at) < 10 {
		return
	}
	v := l.ensure(l.profile)
	longest := int64(lagMaxNs)
	if l.profile == ChannelBuffer || l.profile == ChannelCounter {
		longest = lagMaxStamped
	}
	near, within := (longest+lagMinNs)/2, (longest-lagMinNs)/2
	if v.LagLearnt {
		near, within = v.LagNs, lagAgainNs
	}
	to := c.at[len(c.at)-1] - near - within - lagCoarseNs - 1
	from := max(c.at[0]-near+within+lagCoarseNs+1, to-learnWindowNs, l.lagUntil)
	const enough = 64 // steps of the load; more only cost
	if n := len(of.at); n > enough {
		from = max(from, of.at[n-enough])
	}
	lag, corr := lagOf(&of, c, from, to, near, within)
	if corr < lagMinCorr {
		return
	}
	// The next estimate is made on other requests. A lag is used once two agree.
	l.lagUntil = to
	if len(l.lags) == 5 {
		l.lags = append(l.lags[:0], l.lags[1:]...)
	}
	if n := len(l.lags); n == 1 && abs(l.lags[0]-lag) > lagAgreeNs+v.StepNs/2 {
		l.lags = l.lags[:0]
	}
	if l.lags = append(l.lags, lag); len(l.lags) > 1 {
		sorted := slices.Sorted(slices.Values(l.lags))
		v.LagNs, v.LagLearnt = sorted[len(sorted)/2], true
	}
}

func abs(x int64) int64 { return max(x, -x) }

// frozen demotes a counter that stands still while power flows.
func (l *learner) frozen(t *Trace) string {
	still := l.edges.stillNs()
	if l.demoted[ChannelCounter] != "" || !t.hasProfile() || still < max(stillAtLeast, 10*l.edges.period.hi) {
		return ""
	}
	to := t.c.at[len(t.c.at)-1]
	if watts := (t.c.energy(to) - t.c.energy(to-still)) / float64(still) * 1e3; watts < 5 {
		return ""
	}
	return l.demote(ChannelCounter, fmt.Sprintf("it has not moved for %.0f s while power flows", float64(still)/1e9))
}

// How long a channel whose integral did not follow the counter is left out, at first and at most.
const (
	retryFirstNs = 300e9
	retryMostNs  = 3600e9
)

// suspend demotes the profile's channel for some minutes, each time longer.
func (l *learner) suspend() string {
	l.suspended, l.retryGap = append(l.suspended, l.profile), min(max(2*l.retryGap, retryFirstNs), retryMostNs)
	l.retryAt = l.nextAttempt + l.retryGap
	return l.demote(l.profile, "its integral does not follow the energy counter")
}

// demote stops using a channel.
func (l *learner) demote(c Channel, why string) string {
	if l.demoted[c] != "" {
		return ""
	}
	l.demoted[c] = why
	l.demotions++
	l.choose()
	return fmt.Sprintf("%s is not used any more: %s", c, why)
}

// compare fits the counter to the profile's integral: how far one trails the other, and whether they
// agree.
func (l *learner) compare(t *Trace) string {
	if !t.hasProfile() || l.demoted[ChannelCounter] != "" {
		return ""
	}
	steps := t.sinceGap()
	slope, rms, ok := counterFit(steps, &t.c)
	if !ok {
		return ""
	}
	first, last := steps[0], steps[len(steps)-1]
	seconds := float64(last.mid()-first.mid()) / 1e9
	total := float64(last.uj - first.uj)
	if seconds < 5 || total < 20*rms {
		if seconds > 15 && total > 0 && rms > agreeRmsS*total/seconds {
			return l.suspend()
		}
		return ""
	}
	l.agreement = meter.Some(int64(math.Round(slope * 1e6)))
	if rms > agreeRmsS*total/seconds {
		return l.suspend()
	}
	disputed := math.Abs(slope-1) > agreeWithin
	note := ""
	if disputed && !l.disputed {
		l.demotions++
		note = fmt.Sprintf("energy counter and integrated %s power differ by %+.1f %%: the counter's amount is used, and marked disputed", l.profile, 100*(slope-1))
	}
	l.disputed = disputed
	return note
}

// step returns the shortest usual time between two changes, 0 where fewer than four were seen: an update
// that brings the same value is not seen, so longer times are several updates.
func (c *changes) step() int64 {
	if len(c.times) < 4 {
		return 0
	}
	apart := make([]int64, len(c.times)-1)
	for i := range apart {
		apart[i] = c.times[i+1] - c.times[i]
	}
	slices.Sort(apart)
	return apart[len(apart)/4]
}
