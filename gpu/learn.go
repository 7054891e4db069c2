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
	offers Metrics
	learnt map[Channel]*Calibration
	edges  edgeTracker
	knot   Tick // the last step that became a sample, where the counter gives the shape

	probing    bool
	probe      probe
	probes     int
	probeAgain int64 // when to probe once more, because the machine was too busy; 0: never

	budget  float64       // share of a core that looks at the counter may cost
	extra   time.Duration // what looks beyond the regular pace may still cost
	extraAt int64         // when that was last added to

	shape      Channel
	ringSpan   int64 // how much of the past the ring is taken to hold
	ringLast   int64
	energyCost time.Duration

	demoted   map[Channel]string // reason
	demotions int
	disputed  bool
	agreement meter.Int

	lags     []int64 // of the shape, the latest last
	lagUntil int64   // the end of the window that the latest was found in
	nextTask int64
	tasks    int

	without string // a mechanism to leave out, for the ablation test: "edges" or "lag"
}

const (
	probeAgainNs = 40e9 // by then a sixth of the budget has paid for a part of a probe
	mostProbes   = 10

	learnEveryNs  = 10e9
	relearnNs     = 60e9
	lagAgreeNs    = 30e6
	eagerTasks    = 12 // so often every ten seconds, then every minute even if nothing was learnt
	learnWindowNs = 40e9

	agreeWithin   = 0.08 // a larger difference between counter and samples is a dispute
	agreeRmsS     = 0.3  // seconds of mean power that following the shape may be off
	stillAtLeast  = 5e9  // a counter that stands still for so long while power flows is frozen
	cheapLookTime = 60 * time.Microsecond

	fullRingNs = 2.4e9 // what an H100's ring holds; a shallower one shows itself by a gap
)

// begin starts with a device that was just opened. What was learnt of it before stays, only what did not
// agree gets another chance.
func (l *learner) begin(info Info) {
	was, lags, period, often := l.learnt, l.lags, l.edges.period, l.edges.often
	*l = learner{
		offers: info.Supported, learnt: map[Channel]*Calibration{}, demoted: map[Channel]string{}, demotions: l.demotions,
		energyCost: l.energyCost, budget: l.budget, extra: l.extra, extraAt: l.extraAt, without: l.without,
	}
	for c, e := range info.Expected {
		l.learnt[c] = &Calibration{StepNs: e.StepNs, WindowNs: e.WindowNs, LagNs: e.LagNs}
		if old := was[c]; old != nil {
			l.learnt[c] = old
		}
	}
	l.edges.period, l.edges.often = period, often
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
// nothing can be looked at so often that it beats polled power, and it is true besides.
func (l *learner) choose() {
	was := l.shape
	has := func(w Metrics, c Channel) bool { return l.offers&w != 0 && l.demoted[c] == "" && l.learnt[c] != nil }
	cheap := l.energyCost > 0 && l.energyCost < cheapLookTime && l.edges.period.hi < 50e6
	switch {
	case has(MetricBuffer, ChannelBuffer):
		l.shape = ChannelBuffer
	case has(MetricEnergy, ChannelCounter) && cheap:
		l.shape = ChannelCounter
	case has(MetricPower, ChannelInstant):
		l.shape = ChannelInstant
	case has(MetricPower, ChannelAverage):
		l.shape = ChannelAverage
	case has(MetricEnergy, ChannelCounter):
		l.shape = ChannelCounter
	default:
		l.shape = ""
	}
	if was != l.shape {
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
	if l.offers&MetricEnergy != 0 {
		switch {
		case p.found() && !p.failed:
			l.edges.often = 0
			if l.without != "edges" {
				l.edges.setPeriod(p.period)
			}
			l.ensure(ChannelCounter).StepNs = p.period.mid()
			for i := range p.looks {
				l.edges.observe(&p.looks[i])
			}
		case p.restless():
			l.edges.often = oftenOf(p.looks)
		case l.probes < mostProbes:
			l.probeAgain = now + probeAgainNs
		}
	}
	if l.shape == ChannelInstant || l.shape == ChannelAverage { // watched closely enough to tell
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
	l.probe = newProbe(l.offers, l.shape, l.channel(ChannelCounter).StepNs)
}

// power is shown polled values.
func (l *learner) power(r *Reading) {
	if l.probing {
		l.probe.power(r)
	}
}

// richReads is how many reads the account must pay for before any is made only to know the rhythm better.
const richReads = 14

// startReads is how many reads the account pays for at first where they are dear: a probe and what keeps
// its period known until the samples are proved.
const startReads = 28

// means says which reads beyond the regular pace can be paid for.
func (l *learner) means(now int64) means {
	spare := l.affords(now)
	return means{spare: spare, rich: l.extra >= min(probeCPU/2, richReads*l.energyCost)}
}

// affords says whether a look beyond the regular pace can be paid for.
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

// look is shown a tick, and places its step.
func (l *learner) look(t *Tick) {
	l.edges.observe(t)
	if l.probing && l.probe.counter {
		l.probe.look(*t, l.affords(t.After))
	}
	if p := l.edges.period; p.known() {
		l.ensure(ChannelCounter).StepNs = p.mid()
	}
}

// costs is told the CPU time of a look, and whether it came sooner than the regular pace has it.
func (l *learner) costs(cpu time.Duration, extra bool) {
	if extra {
		l.extra -= cpu
	}
	if l.energyCost == 0 {
		l.energyCost = cpu
	}
	l.energyCost += (cpu - l.energyCost) / 16
}

// ring is shown what one fetch of the ring brought.
func (l *learner) ring(s []Sample) {
	v := l.learnt[ChannelBuffer]
	if len(s) < 2 {
		return
	}
	v.Depth = max(v.Depth, len(s))
	span := s[len(s)-1].At - s[0].At
	l.ringSpan = max(l.ringSpan, span)
	switch whole := l.ringLast == 0 || s[0].At-l.ringLast <= 2*v.StepNs; {
	case !whole: // all that the ring held
		l.ringSpan = span
	case l.ringSpan < fullRingNs: // perhaps it holds more: nothing was missed until now
		l.ringSpan += span / 2
	}
	l.ringLast = s[len(s)-1].At
	if len(s) >= 20 {
		v.StepNs = (s[len(s)-1].At - s[0].At) / int64(len(s)-1)
	}
}

// What a lag may be off. Once learnt that is small, but never less than what power itself takes to
// follow the load, which nothing here can tell from a channel's lag.
const (
	lagErrLearntNs = 15e6
	lagErrStampNs  = 30e6  // of a ring before it is learnt
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

func (l *learner) facts() paceFacts {
	span := l.ringSpan
	if span == 0 {
		span = 500e6
	}
	return paceFacts{
		shape: l.shape, shapeStep: l.channel(l.shape).StepNs, ringSpan: span,
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
	if note = l.frozen(t); note != "" || now < l.nextTask {
		return note
	}
	first := l.nextTask == 0
	l.nextTask = now + learnEveryNs
	if first {
		return ""
	}
	if c := l.channel(l.shape); (c.LagLearnt && l.agreement.Valid) || l.tasks > eagerTasks {
		l.nextTask = now + relearnNs
	}
	l.tasks++
	l.learnLag(t, loadOf())
	return l.compare(t)
}

// learnLag learns how far the shape trails the load.
func (l *learner) learnLag(t *Trace, of load) {
	c := &t.c
	if len(c.at) < 10 || l.without == "lag" {
		return
	}
	v := l.ensure(l.shape)
	longest := int64(lagMaxNs)
	if l.shape == ChannelBuffer || l.shape == ChannelCounter {
		longest = lagMaxRing
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
	// The next estimate is made on other requests. A lag is believed once two agree.
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
	if l.demoted[ChannelCounter] != "" || !t.shaped() || still < max(stillAtLeast, 10*l.edges.period.hi) {
		return ""
	}
	to := t.c.at[len(t.c.at)-1]
	if watts := (t.c.energy(to) - t.c.energy(to-still)) / float64(still) * 1e3; watts < 5 {
		return ""
	}
	return l.demote(ChannelCounter, fmt.Sprintf("it has not moved for %.0f s while power flows", float64(still)/1e9))
}

// demote stops believing a channel.
func (l *learner) demote(c Channel, why string) string {
	if l.demoted[c] != "" {
		return ""
	}
	l.demoted[c] = why
	l.demotions++
	l.choose()
	return fmt.Sprintf("%s is not used any more: %s", c, why)
}

// compare fits the counter to the shape's integral: how far one trails the other, and whether they
// agree.
func (l *learner) compare(t *Trace) string {
	if !t.shaped() || l.demoted[ChannelCounter] != "" {
		return ""
	}
	slope, rms, ok := counterFit(t.knots, &t.c)
	if !ok {
		return ""
	}
	first, last := t.knots[0], t.knots[len(t.knots)-1]
	seconds := float64(last.mid()-first.mid()) / 1e9
	total := float64(last.uj - first.uj)
	if seconds < 5 || total < 20*rms {
		if seconds > 15 && total > 0 && rms > agreeRmsS*total/seconds {
			return l.demote(l.shape, "its integral does not follow the energy counter")
		}
		return ""
	}
	l.agreement = meter.Some(int64(math.Round(slope * 1e6)))
	if rms > agreeRmsS*total/seconds {
		return l.demote(l.shape, "its integral does not follow the energy counter")
	}
	disputed := math.Abs(slope-1) > agreeWithin
	note := ""
	if disputed && !l.disputed {
		l.demotions++
		note = fmt.Sprintf("energy counter and integrated %s power differ by %+.1f %%: the counter's amount is used, and marked disputed", l.shape, 100*(slope-1))
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
