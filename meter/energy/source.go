package energy

import (
	"math"
	"time"
)

// energySlice is the energy that a device drew between t0 and t1.
type energySlice struct {
	t0, t1 int64
	uj     int64
	gap    bool // its shape in time is not known from samples
	lost   bool // nothing is known of the energy: uj is 0
}

// sample is a mean power over (t0, t1].
type sample struct {
	t0, t1 int64
	mw     int64
	gap    bool
}

// tick is a change of the energy counter.
type tick struct {
	at        int64
	uj        int64
	timeError int64 // standard error of at, in ns
}

// source turns samples and counter readings into energy slices; their sum is the counter's delta. The samples are
// scaled to the counter between anchors (edgeFilter): ticks at least a second apart, chosen where the draw
// times the uncertainty of the tick's time is least. Without samples, the counter's differences are the
// slices.
type source struct {
	cfg     Config
	samples fifo[sample]
	ticks   fifo[tick]
	ready   fifo[energySlice]

	lastAt  int64 // stamp of the newest sample, 0 before the first
	lastMW  int64
	typical int64 // usual distance of samples

	opened   bool  // a first tick was seen
	first    bool  // a first reading was seen
	polled   int64 // stamp of the newest reading
	stepped  int64 // of the newest step
	latest   int64 // newest counter value
	anchor   tick  // slices have been made up to here
	total    int64 // the counter's delta since the account opened, resets left out
	emitted  int64 // energy in slices made so far
	opening  int64 // energy between the first reading and the first tick: its time is not known
	fraction float64
	lost     int64 // stamp of a counter reset that the ledger has not taken yet
	lostFrom int64 // since when the energy is not known, after such a reset; 0: it is known
	begin    int64 // when the account opened
	filter   edgeFilter
	excluded int64 // part of total that is never emitted
	average  average

	lag       float64 // ns by which the shape trails the load
	lagLearnt bool    // lag is learnt (lag.go)
	loadT     int64   // end of the last slice handed on, minus the lag
	handed    int64   // energy handed on
	closed    bool
}

const (
	blockMin   = int64(time.Second)            // least distance of anchors
	blockMax   = 2 * int64(time.Second)        // and greatest
	tickGuess  = 100 * int64(time.Millisecond) // counters tick at least so often
	gapMin     = 300 * int64(time.Millisecond) // shorter distances of samples are no gaps
	flatSpan   = 40 * int64(time.Millisecond)  // the power at a tick is the mean of so long before and after it
	maxSamples = 1 << 13
	standstill = 8 * int64(time.Second) // a counter that has not changed for so long is not waited for
	silence    = 5 * int64(time.Second) // a source so far behind the other is taken as lost
	longGap    = int64(time.Second)     // of a longer gap without a counter nothing is known
)

// usualLag is how far the shape trails the load, in ns, where nothing else is known.
var usualLag = [...]float64{ShapeSamples: 12e6, ShapeCounter: 15e6, ShapeAverage: 20e6}

func newSource(cfg Config) source {
	s := source{cfg: cfg, average: newAverage(cfg.Average), lag: float64(cfg.Lag)}
	if cfg.Lag == 0 {
		s.lag, s.lagLearnt = usualLag[cfg.Shape], cfg.Shape == ShapeCounter && !cfg.Frozen
	}
	return s
}

// power takes a sample and reports whether slices may have become ready.
func (s *source) power(at, mw int64) bool {
	prev := s.lastAt
	if s.cfg.Shape == ShapeCounter || mw < 0 || at <= prev {
		return false
	}
	if s.cfg.Shape == ShapeAverage && mw == s.lastMW && at-prev < int64(s.cfg.Average)/9 {
		return false // the sensor has not refreshed its value
	}
	s.lastAt, s.lastMW = at, mw
	if prev == 0 {
		if s.cfg.NoCounter || s.cfg.Shape == ShapeAverage {
			s.begin = at
		}
		return false
	}
	d := at - prev
	p := sample{t0: prev, t1: at, mw: mw, gap: d > gapMin && (s.typical == 0 || d > 5*s.typical)}
	if s.typical == 0 {
		s.typical = d
	}
	s.typical += (d - s.typical) / 16
	switch {
	case s.cfg.Shape == ShapeAverage:
		if s.average.restarts(p) {
			d = s.average.length
		}
		s.total += int64(math.Round(float64(mw) * float64(d) * 1e-6))
		s.average.waiting.push(p)
	case s.cfg.NoCounter:
		s.integrate(p)
	default:
		if s.samples.len() == maxSamples {
			s.samples.pop() // no counter ever came
		}
		s.samples.push(p)
		s.blocks()
	}
	return true
}

// integrate takes a sample where there is no counter.
func (s *source) integrate(p sample) {
	if p.gap && p.t1-p.t0 > longGap {
		s.emitLost(p.t0, p.t1)
		return
	}
	e := float64(p.mw)*float64(p.t1-p.t0)*1e-6 + s.fraction // mW ns to uJ
	uj := int64(math.Floor(e))
	s.fraction = e - float64(uj)
	s.total += uj
	s.emit(p.t0, p.t1, uj, p.gap)
}

func (s *source) emit(t0, t1, uj int64, gap bool) {
	s.emitted += uj
	s.ready.push(energySlice{t0: t0, t1: t1, uj: uj, gap: gap})
}

// emitLost says that nothing is known of the energy from t0 to t1.
func (s *source) emitLost(t0, t1 int64) {
	if t1 > t0 {
		s.ready.push(energySlice{t0: t0, t1: t1, gap: true, lost: true})
	}
}

// counter takes a reading. Its last step lies in (lo, hi], or between the readings if both are 0.
func (s *source) counter(before, after, lo, hi, uj int64) bool {
	if s.cfg.NoCounter {
		return false
	}
	if !s.first {
		s.first, s.latest, s.polled, s.begin = true, uj, after, before
		if lo > 0 && hi > lo {
			s.begin = lo + (hi-lo)/2
		}
		return false
	}
	d := uj - s.latest
	wide := min(before-s.polled, tickGuess) // the tick was in the last so many ns
	at := before - wide/2
	if lo > 0 && hi > lo {
		wide, at = hi-lo, lo+(hi-lo)/2
		at = max(at, s.stepped+1)
	}
	s.latest, s.polled = uj, after
	switch {
	case d < 0: // a reset: what was drawn since the last reading is unknown
		s.flush()
		if s.opened && s.lostFrom == 0 {
			s.lostFrom = s.anchor.at
		}
		s.opened, s.lost = false, at
		s.anchor = tick{at: at, uj: uj}
		return true
	case d == 0:
		s.blocks()
		return true
	}
	s.total += d
	s.stepped = at
	t := tick{at, uj, int64(float64(wide) / math.Sqrt(12))}
	if !s.opened {
		s.opened, s.anchor = true, t
		if s.lostFrom != 0 {
			s.emitLost(s.lostFrom, t.at)
			s.lostFrom = 0
		}
		s.opening += d
		s.excluded = s.total - s.emitted
		return false
	}
	if s.cfg.Shape == ShapeCounter {
		s.emit(s.anchor.at, t.at, d, t.at-s.anchor.at > silence)
		s.anchor = t
		return true
	}
	s.ticks.push(t)
	s.blocks()
	return true
}

// blocks closes as many blocks as both sources cover.
func (s *source) blocks() {
	if s.cfg.Shape != ShapeSamples || !s.opened {
		return
	}
	if s.ticks.len() == 0 && s.lastAt-s.anchor.at > standstill {
		s.extrapolate()
	}
	for s.ticks.len() > 0 {
		covered := min(s.polled, s.lastAt-2*flatSpan)
		switch {
		case s.polled-max(s.lastAt, s.anchor.at) > silence:
			s.useTicks()
			continue
		case covered < s.anchor.at+blockMax:
			return
		}
		i := s.chooseAnchor()
		if s.ticks.at(i).at > covered {
			return // a tick long after the last: the samples up to it have yet to come
		}
		s.block(i)
	}
}

// chooseAnchor returns the index, among the waiting ticks, of the next anchor: the one with the least error between
// blockMin and blockMax, or the first after them.
func (s *source) chooseAnchor() int {
	best, least := -1, math.Inf(1)
	for i := range s.ticks.len() {
		t := s.ticks.at(i)
		switch d := t.at - s.anchor.at; {
		case d < blockMin:
			continue
		case d > blockMax:
			if best < 0 {
				return i
			}
			return best
		}
		if e := s.tickError(t); e < least {
			best, least = i, e
		}
	}
	if best < 0 {
		best = s.ticks.len() - 1
	}
	return best
}

// tickError is the standard error of a tick in uJ, which comes from its uncertain time.
func (s *source) tickError(t *tick) float64 {
	return s.mean(t.at-flatSpan, t.at+flatSpan) * float64(t.timeError) * 1e-6
}

// block emits the samples up to tick i, scaled to the counter.
func (s *source) block(i int) {
	end := *s.ticks.at(i)
	a, b := s.anchor.at, end.at
	owed := s.total - (s.latest - end.uj) - s.emitted - s.excluded
	whole, covered := s.integral(a, b)
	switch {
	case whole <= 0:
		s.emit(a, b, max(owed, 0), true)
	case covered*10 < (b-a)*9: // too many samples are missing to compare the two
		s.aroundGaps(a, b, max(owed, 0), whole, b-a-covered)
	default:
		s.scaled(a, b, s.filter.correct(whole*1e-6, float64(owed), s.tickError(&end)), whole)
	}
	s.anchor = end
	for range i + 1 {
		s.ticks.pop()
	}
	s.forget(b)
}

// forget drops samples that no later block needs.
func (s *source) forget(before int64) {
	for s.samples.len() > 0 && s.samples.at(0).t1 <= before-2*flatSpan {
		s.samples.pop()
	}
}

// aroundGaps emits the samples of a block with their usual scale; the rest of its energy lies in its gaps.
func (s *source) aroundGaps(a, b, owed int64, whole float64, missing int64) {
	scale := s.filter.scale
	if scale == 0 {
		scale = 1
	}
	scale *= min(1, float64(owed)/max(1, scale*whole*1e-6))
	inGaps := max(0, float64(owed)-scale*whole*1e-6) / float64(missing)
	sum, given, last := 0.0, int64(0), a
	piece := func(t1 int64, uj float64, gap bool) {
		if t1 <= last {
			return
		}
		sum += uj
		upTo := max(given, min(int64(sum), owed))
		s.emit(last, t1, upTo-given, gap)
		given, last = upTo, t1
	}
	for k := range s.samples.len() {
		p := s.samples.at(k)
		if t0, t1 := max(p.t0, a), min(p.t1, b); t1 > t0 && !p.gap {
			piece(t0, inGaps*float64(t0-last), true)
			piece(t1, scale*float64(p.mw)*float64(t1-t0)*1e-6, false)
		}
	}
	piece(b, inGaps*float64(b-last), true)
}

func (s *source) scaled(a, b, delta int64, whole float64) {
	var sum float64
	var given int64
	last := a
	for k := range s.samples.len() {
		p := s.samples.at(k)
		t0, t1 := max(p.t0, a), min(p.t1, b)
		if t1 <= t0 {
			continue
		}
		sum += float64(p.mw) * float64(t1-t0)
		upTo := int64(float64(delta) * min(sum/whole, 1))
		s.emit(last, t1, upTo-given, p.gap)
		given, last = upTo, t1
	}
	if last < b || given < delta {
		s.emit(last, b, delta-given, b-last > gapMin)
	}
}

// extrapolate emits samples with their last scale, while the counter stands still. What the counter shows later is
// reduced by it, so that nothing is emitted twice.
func (s *source) extrapolate() {
	a, b := s.anchor.at, s.lastAt-2*flatSpan
	if whole, _ := s.integral(a, b); whole > 0 {
		uj := whole * 1e-6
		s.scaled(a, b, s.filter.correct(uj, 0, math.Inf(1)), whole)
	}
	s.anchor.at = b
	s.forget(b)
}

// useTicks emits the next counter difference unshaped, because samples are missing.
func (s *source) useTicks() {
	t := s.ticks.pop()
	s.emit(s.anchor.at, t.at, t.uj-s.anchor.uj, true)
	s.anchor = t
}

// integral is the samples' integral over (a, b] in mW ns, and how much of it they cover.
func (s *source) integral(a, b int64) (sum float64, covered int64) {
	for k := range s.samples.len() {
		p := s.samples.at(k)
		if t0, t1 := max(p.t0, a), min(p.t1, b); t1 > t0 && !p.gap {
			sum += float64(p.mw) * float64(t1-t0)
			covered += t1 - t0
		}
	}
	return sum, covered
}

// mean is the samples' mean over (a, b] in mW.
func (s *source) mean(a, b int64) float64 {
	sum, covered := s.integral(a, b)
	return sum / float64(max(covered, 1))
}

// flush emits everything up to the newest tick.
func (s *source) flush() {
	if s.cfg.Shape != ShapeSamples {
		return
	}
	s.blocks()
	if n := s.ticks.len(); n > 0 {
		s.ticks.at(n - 1).timeError = 0 // no later tick can correct it
		s.block(n - 1)
	}
}

func (s *source) close() {
	s.flush()
	s.closed = true
}

// next hands on the next slice, its times reduced by the lag, once every window that it overlaps is cut.
func (s *source) next(l *Ledger) (energySlice, bool) {
	for s.cfg.Shape == ShapeAverage && s.ready.len() == 0 && s.deconvolve(l) {
	}
	if s.ready.len() == 0 {
		return energySlice{}, false
	}
	p := *s.ready.at(0)
	lag := int64(s.lag)
	p.t0, p.t1 = p.t0-lag, p.t1-lag
	if s.loadT != 0 {
		p.t0 = s.loadT
	}
	p.t1 = max(p.t1, p.t0+1)
	if !l.segmenter.started {
		l.segmenter.start(p.t0)
	}
	if l.segmenter.open.t0 < p.t1+maxStepSpread && !l.segmenter.closing {
		return energySlice{}, false
	}
	s.ready.pop()
	s.loadT = p.t1
	s.handed += p.uj
	if s.lagLearnt {
		l.allocator.lag.add(p)
	}
	return p, true
}
