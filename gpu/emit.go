package gpu

import (
	"maps"

	"wattline/meter"
)

// beginEpoch starts anew: nothing before this moment may be connected with what follows.
func (r *runner) beginEpoch() {
	r.epoch++
	r.began = r.cfg.Clock.Now()
	r.lastTick, r.lastSample = Tick{}, 0
	r.learn.edges.reset()
	r.rows.begin(r.began)
}

// end closes the epoch and the device.
func (r *runner) end(reason string) {
	r.emitEnd(reason)
	if err := r.dev.Close(); err != nil {
		r.log.Debug("closing the device", "err", err)
	}
	r.dev = nil
	if reason == ErrAsleep.Error() {
		r.setCondition(Asleep, reason)
		return
	}
	if reason != "stopped" {
		r.log.Warn("device is lost; an epoch ends", "epoch", r.epoch, "reason", reason)
	}
	r.setCondition(Lost, reason)
}

// emitEnd hands on that the epoch has ended.
func (r *runner) emitEnd(reason string) {
	now := r.cfg.Clock.Now()
	r.batch.Ticks, r.batch.Samples, r.batch.Rows = nil, nil, r.rows.missing(r.batch.Rows[:0], now, r.info, r.epoch, reason)
	r.batch.Ended, r.batch.At = reason, now
	if r.rec != nil && reason != "stopped" {
		r.rec.Lost(now)
	}
	r.emit()
	r.batch.Ended = ""
}

// take works the reading into the batch, the trace and the learner. A reason says that the energy
// counter does not continue what it said before; nothing was taken then.
func (r *runner) take(want Metrics, now int64) (broken string) {
	b := &r.batch
	b.Ticks, b.Samples, b.Rows = nil, nil, b.Rows[:0]
	if e := r.reading.Energy; e.OK && want&MetricEnergy != 0 {
		if broken = r.discontinuity(e); broken != "" {
			return broken
		}
		r.learn.counterRead(&e)
		r.reading.Energy = e
		b.Ticks = append(r.ownTick[:0], e)
		if r.learn.demoted[ChannelCounter] != "" {
			b.Ticks = nil
		}
	}
	if want&MetricPower != 0 {
		r.learn.power(&r.reading)
	}
	b.Samples = r.samples(want)
	r.keepLatest(want)
	r.lastTick = r.tickOr(r.lastTick, want)
	r.contend(want)
	r.describe(b, want)
	r.trace.Add(b)
	if note := r.learn.improve(now, r.trace, r.loadCopy); note != "" {
		r.log.Warn(note)
	}
	b.Rows = r.rows.make(b.Rows, now, r)
	return ""
}

func (r *runner) tickOr(old Tick, want Metrics) Tick {
	if e := r.reading.Energy; e.OK && want&MetricEnergy != 0 {
		return e
	}
	return old
}

// maxDrawMw is above any device's draw; a counter that moves by more has jumped.
const maxDrawMw = 5e6

// discontinuity returns why e cannot follow the tick before it.
func (r *runner) discontinuity(e Tick) string {
	last := r.lastTick
	if !last.OK {
		return ""
	}
	most := int64(maxDrawMw)
	if limit := r.latest.Status.LimitMw; limit.Valid && limit.V > 0 {
		most = 2*limit.V + 100e3
	}
	span := e.After - last.Before + max(r.learn.edges.period.hi, 1e8)
	switch d := e.Uj - last.Uj; {
	case d < 0:
		return "counter went backwards: it was reset"
	case float64(d) > float64(most)*float64(span)/1e6:
		return "counter jumped by more than the device can draw"
	}
	return ""
}

// samples returns the reading's samples of the channel that gives the profile.
func (r *runner) samples(want Metrics) []Sample {
	own := r.ownSamples[:0]
	switch r.learn.profile {
	case ChannelBuffer:
		if want&MetricBuffer == 0 {
			return nil
		}
		own = r.reading.Buffer
		r.learn.buffer(own)
		r.countMissed(own)
	case ChannelInstant, ChannelAverage:
		mw := r.reading.InstantMw
		if r.learn.profile == ChannelAverage {
			mw = r.reading.AverageMw
		}
		if want&MetricPower == 0 || !mw.Valid || r.reading.PowerAt <= r.lastSample {
			return nil
		}
		own = append(own, Sample{At: r.reading.PowerAt, Mw: mw.V})
		r.countMissed(own)
	case ChannelCounter:
		s, ok := r.fromCounter(want)
		if !ok {
			return nil
		}
		own = append(own, s)
	default:
		return nil
	}
	if r.learn.profile != ChannelBuffer {
		r.ownSamples = own
	}
	if n := len(own); n > 0 {
		r.lastSample = own[n-1].At
	}
	return own
}

// fromCounter makes a sample of the power between two steps of the counter.
func (r *runner) fromCounter(want Metrics) (Sample, bool) {
	e, last := r.learn.edges.prev, r.learn.lastSampled
	if want&MetricEnergy == 0 || !e.OK || (last.OK && e.Uj == last.Uj) {
		return Sample{}, false
	}
	r.learn.lastSampled = e
	at, was := span{e.Lo, e.Hi}.mid(), span{last.Lo, last.Hi}.mid()
	if !last.OK || at <= was || at <= r.lastSample {
		return Sample{}, false
	}
	return Sample{At: at, Mw: int64(float64(e.Uj-last.Uj) * 1e6 / float64(at-was))}, true
}

// countMissed counts what should have come between the last sample and these.
func (r *runner) countMissed(s []Sample) {
	if len(s) == 0 || r.lastSample == 0 {
		return
	}
	step := r.learn.channel(r.learn.profile).StepNs
	if gap := s[0].At - r.lastSample; step > 0 && gap > gapAfter(step) {
		r.missed += int(gap/step) - 1
	}
}

// contend works out whether other processes compute on the device.
func (r *runner) contend(want Metrics) {
	if want&MetricProcesses == 0 {
		return
	}
	r.contention, r.upstreamMem = ContentionUnknown, meter.Int{}
	r.latest.Procs = append(r.latest.Procs[:0], r.reading.Procs...)
	r.latest.ProcsKnown = r.reading.ProcsKnown
	if !r.reading.ProcsKnown || r.target.IsUpstreamProcess == nil {
		return
	}
	was := r.state.Load().Contention
	r.contention = ContentionNone
	var other int
	for _, p := range r.reading.Procs {
		if r.target.IsUpstreamProcess(p.PID) {
			if p.MemB.Valid {
				r.upstreamMem = meter.Some(r.upstreamMem.V + p.MemB.V)
			}
			continue
		}
		if r.target.OwnerKnown != nil && !r.target.OwnerKnown(p.PID) {
			if r.contention == ContentionNone {
				r.contention = ContentionUnknown
			}
			continue
		}
		r.contention, other = ContentionOther, p.PID
	}
	if r.contention == ContentionOther && was != ContentionOther {
		r.log.Info("another process computes on the device; its joules are contended from now on", "pid", other)
	}
}

// describe fills b's description of its contents.
func (r *runner) describe(b *Batch, want Metrics) {
	l := &r.learn
	b.Device, b.Info, b.Epoch, b.Began = r.index, r.info, r.epoch, r.began
	b.Profile, b.Disputed, b.Contention, b.UpstreamMemB = l.profile, l.disputed, r.contention, r.upstreamMem
	c := l.channel(l.profile)
	b.StepNs, b.WindowNs, b.ProfileLagNs = c.StepNs, c.WindowNs, c.LagNs
	k := l.channel(ChannelCounter)
	b.TickLagNs = k.LagNs
	if l.profile == ChannelCounter {
		b.StepNs = max(c.StepNs, 20e6)
	}
	b.LagsLearnt = c.LagLearnt
	b.ProfileErrNs, b.TickErrNs = lagErr(l.profile, c), lagErr(ChannelCounter, k)
	b.Through = r.lastSample
	b.Status, b.StatusAt, b.At = r.latest.Status, 0, r.reading.stamp()
	if want&MetricStatus != 0 {
		b.StatusAt = r.reading.After
	}
	b.statusRead = want&(MetricStatus|MetricProcesses) != 0
}

// emit hands the batch on, if there is something in it.
func (r *runner) emit() {
	b := &r.batch
	if len(b.Ticks) == 0 && len(b.Samples) == 0 && len(b.Rows) == 0 && b.Ended == "" && !b.statusRead {
		return
	}
	if n := len(b.Rows); n > 0 {
		r.rows.last = b.Rows[n-1]
	}
	if r.cfg.Handle != nil {
		r.cfg.Handle(b)
	}
}

// keepLatest keeps the last values of each group for rows and State.
func (r *runner) keepLatest(want Metrics) {
	if want&MetricPower != 0 {
		r.latest.InstantMw, r.latest.AverageMw = r.reading.InstantMw, r.reading.AverageMw
	}
	if want&MetricStatus == 0 {
		return
	}
	if xid := r.reading.Status.XID; xid.Valid && xid != r.latest.Status.XID {
		r.log.Warn("the driver reports an error of the device (XID; see NVIDIA's list and dmesg)", "xid", xid.V)
	}
	if ecc, was := r.reading.Status.ECCErrors, r.latest.Status.ECCErrors; ecc.Valid && was.Valid && ecc.V > was.V {
		r.log.Warn("the device's memory has new uncorrected errors", "ecc_errors", ecc.V)
	}
	r.latest.Status = r.reading.Status
}

// loadCopy returns the load as it is, for the learner.
func (r *runner) loadCopy() load {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load.trim(r.cfg.Clock.Now() - int64(traceKeep))
	return load{at: append([]int64(nil), r.load.at...), level: append([]float64(nil), r.load.level...)}
}

// publish stores a snapshot: at once when forced, else once a second.
func (r *runner) publish(now int64, force bool) {
	if !force && now-r.published < 1e9 {
		return
	}
	r.published = now
	l := &r.learn
	s := &State{
		Info: r.info, Condition: r.condition, Why: r.why, At: now, Epoch: r.epoch, Reopens: r.reopens,
		Errors: r.errsTotal, Missed: r.missed, Demotions: l.demotions, Profile: l.profile, Disputed: l.disputed,
		Channels: map[Channel]Calibration{}, Demoted: map[Channel]string{}, Calls: map[string]CallStats{},
		Agreement: l.agreement, CPUNs: int64(r.cfg.cpu() - r.cpuBase), WallNs: now - r.startedAt,
		InstantMw: r.latest.InstantMw, AverageMw: r.latest.AverageMw, Status: r.latest.Status, Contention: r.contention,
	}
	if r.latest.ProcsKnown {
		s.Procs = append([]Process{}, r.latest.Procs...)
	}
	for c, v := range l.learnt {
		s.Channels[c] = *v
	}
	maps.Copy(s.Demoted, l.demoted)
	r.info.Supported.groups(func(i int, g Metrics) {
		c := &r.calls[i]
		s.Calls[g.String()] = CallStats{Count: c.n, P50Ns: c.quantile(0.5), P99Ns: c.quantile(0.99), MaxNs: c.maxNs}
	})
	if r.lastTick.OK {
		s.EnergyUj = meter.Some(r.lastTick.Uj)
	}
	if row := r.rows.last; row.DurationNs > 0 {
		s.Row = &row
	}
	r.state.Store(s)
}
