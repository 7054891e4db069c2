package gpu

import (
	"math"
	"slices"
	"sort"
	"strings"
	"time"
)

// Estimate is the energy that a device took between two moments.
type Estimate struct {
	OK      bool    // false: the trace does not cover the interval in one epoch
	Uj      int64   // microjoules
	ErrorUj int64   // the truth lies within Uj ± ErrorUj unless Marked says why that cannot be promised
	Channel Channel // what the joules come from: the counter where there is one
	Marked  string  // "" or the reasons, "; " between them
}

// Reasons why a bound cannot be promised.
const (
	MarkNoCounter = "no energy counter: the power reading's gain and coverage are unverified"
	MarkCounter   = "energy counter not seen to move since: the power reading's gain is unverified"
	MarkDisputed  = "energy counter and integrated power disagree"
	MarkLag       = "lag not learnt yet"
	MarkGap       = "samples missed"
)

// Trace turns one device's batches into energy. The samples give the profile in time, with their lag
// removed; the counter gives the amount: between two of its steps a second or more apart, the profile is
// scaled to what the counter says. A Trace keeps a window of the past and forgets the rest; it belongs
// to one goroutine.
//
// The bound on the error needs no trust in the profile: the energy at a moment lies between what the
// counter showed at its last step before and at its first step after. Where the profile has proved itself
// against the counter's steps (each predicted from its two neighbours), the bound is the tighter one of
// the two.
type Trace struct {
	keepNs int64
	epoch  int
	began  bool

	c       powerHistory
	steps   []counterStep
	suspect counterStep // the counter's last step while it is not used yet, see disagreesWithSamples; hi 0: none

	profile    Channel
	profileLag int64
	tickLag    int64
	stepNs     int64
	windowNs   int64
	profileErr int64 // what the lags may be off
	tickErr    int64
	learnt     bool
	disputed   bool

	rms       float64 // of predicting an anchor from its neighbours, in microjoules; infinite until known
	predicted int     // how many predictions it comes from
}

// counterStep is one step of the counter.
type counterStep struct {
	lo, hi int64
	uj     int64
	anchor bool // the profile is scaled between anchors
}

func (k counterStep) mid() int64     { return k.lo + (k.hi-k.lo)/2 }
func (k counterStep) isAnchor() bool { return k.anchor }

const (
	anchorEveryNs   = 900e6
	anchorSharp     = 30   // an anchor is placed to this part of its distance from the one before
	counterSpeaksNs = 5e9  // for so long the samples go on with the counter's last gain
	gainErr         = 0.05 // what vendors state for a power reading
)

// NewTrace returns a Trace that remembers at least keep.
func NewTrace(keep time.Duration) *Trace {
	return &Trace{keepNs: int64(keep), rms: math.Inf(1)}
}

// Add takes a batch of the device. A new epoch or a change of channel begins anew.
func (t *Trace) Add(b *Batch) {
	if !t.began || b.Epoch != t.epoch || b.Profile != t.profile {
		t.c.reset()
		if b.Epoch != t.epoch || !t.began {
			t.steps, t.suspect = t.steps[:0], counterStep{}
		}
		t.began, t.epoch, t.profile, t.rms, t.predicted = true, b.Epoch, b.Profile, math.Inf(1), 0
	}
	t.profileLag, t.tickLag, t.learnt = b.ProfileLagNs, b.TickLagNs, b.LagsLearnt
	t.profileErr, t.tickErr = b.ProfileErrNs, b.TickErrNs
	t.stepNs, t.windowNs, t.disputed = b.StepNs, b.WindowNs, b.Disputed
	t.c.gapNs = gapAfter(b.StepNs)
	t.c.add(b.Samples...)
	for _, k := range b.Ticks {
		t.addRead(k)
	}
	if len(b.Ticks) > 0 {
		t.rms, t.predicted = t.residual()
	}
	t.forget()
}

// gapAfter returns the distance between samples that counts as a gap. Polled power is polled more
// slowly than it changes while nothing is in flight.
func gapAfter(stepNs int64) int64 { return 5 * max(stepNs, idlePollNs) }

func (t *Trace) addRead(k Tick) {
	if !k.OK {
		return
	}
	if n := len(t.steps); n > 0 && t.steps[n-1].uj == k.Uj {
		last := &t.steps[n-1]
		if lo, hi := max(last.lo, k.Lo), min(last.hi, k.Hi); lo < hi {
			last.lo, last.hi = lo, hi
			t.anchorLast()
		}
		return
	}
	next := counterStep{lo: k.Lo, hi: k.Hi, uj: k.Uj}
	if d := t.suspect; d.hi != 0 {
		t.suspect = counterStep{}
		if d.uj == next.uj { // it has not moved since; this read may place the step better
			if lo, hi := max(d.lo, next.lo), min(d.hi, next.hi); lo < hi {
				d.lo, d.hi = lo, hi
			}
			next = d
		} else { // it has moved on, so the step was right
			t.steps = append(t.steps, d)
			t.anchorLast()
		}
	}
	if t.disagreesWithSamples(next) {
		t.suspect = next
		return
	}
	t.steps = append(t.steps, next)
	t.anchorLast()
}

// disagreesWithSamples reports whether a counter step differs from the value extrapolated from the power samples
// by more than three times the usual rms. The last step of a counter that has frozen does: it is taken for a recent
// one. Such a step is not used before the counter has moved again.
func (t *Trace) disagreesWithSamples(k counterStep) bool {
	if math.IsInf(t.rms, 1) || len(t.steps) == 0 {
		return false
	}
	expected, ok := t.scaled(k.mid() - t.tickLag)
	return ok && math.Abs(expected-float64(k.uj)) > 3*t.rms
}

// needsCounter reports whether the counter should be read more often than usual: it is not known yet whether samples
// follow it, or its last step is suspect.
func (t *Trace) needsCounter() bool {
	return t.hasProfile() && t.predicted < enoughPredictions || t.suspect.hi != 0
}

// anchorLast makes the last step an anchor if it is far enough from the one before and placed sharply
// for that distance. A badly placed anchor is replaced by a well placed one that comes soon after it.
func (t *Trace) anchorLast() {
	n := len(t.steps) - 1
	k := &t.steps[n]
	if k.anchor {
		return
	}
	for i := n - 1; i >= 0; i-- {
		a := &t.steps[i]
		if !a.anchor {
			continue
		}
		apart := k.mid() - a.mid()
		if apart < anchorEveryNs && a.hi-a.lo > 3*(k.hi-k.lo) {
			a.anchor, k.anchor = false, true
			return
		}
		k.anchor = apart >= anchorEveryNs && k.hi-k.lo <= apart/anchorSharp
		if first := !slices.ContainsFunc(t.steps[:i], counterStep.isAnchor); first && a.hi-a.lo > apart/anchorSharp && a.hi-a.lo > 3*(k.hi-k.lo) {
			a.anchor, k.anchor = false, true // made before the period was known
		}
		return
	}
	k.anchor = true
}

func (t *Trace) forget() {
	var last int64
	if n := len(t.c.at); n > 0 {
		last = t.c.at[n-1]
	}
	if n := len(t.steps); n > 0 {
		last = max(last, t.steps[n-1].hi)
	}
	t.c.trim(last - t.keepNs)
	i := sort.Search(len(t.steps), func(i int) bool { return t.steps[i].hi >= last-t.keepNs })
	if i > len(t.steps)/2 {
		t.steps = append(t.steps[:0], t.steps[i:]...)
	}
}

// sinceGap are the counter's steps behind the last gap of the samples.
func (t *Trace) sinceGap() []counterStep {
	const reach = 400e6 // of counterFit's shifts
	i := sort.Search(len(t.steps), func(i int) bool { return t.steps[i].mid()-reach >= t.c.since })
	return t.steps[i:]
}

// hasProfile reports whether there are samples of another channel than the counter. Samples made from its own
// steps serve for learning its lag only.
func (t *Trace) hasProfile() bool { return t.profile != "" && t.profile != ChannelCounter }

// Until returns up to which moment of the load Energy can tell anything; 0 where nothing is known.
func (t *Trace) Until() int64 {
	if n := len(t.c.at); n > 0 {
		return t.c.at[n-1] - t.profileLag
	}
	if n := len(t.steps); n > 0 {
		return t.steps[n-1].lo - t.tickLag
	}
	return 0
}

// since returns from which moment of the load on Energy can soon tell something with a bound.
func (t *Trace) since() (at int64) {
	if t.hasProfile() && len(t.c.at) > 0 {
		at = t.c.at[0] - t.profileLag
	}
	if len(t.steps) > 0 {
		at = max(at, t.steps[0].hi-t.tickLag+t.tickErr)
	}
	return at
}

// Energy estimates the energy that the load took in [from, to].
func (t *Trace) Energy(from, to int64) Estimate {
	if to <= from {
		return Estimate{}
	}
	a, okA := t.upTo(from)
	b, okB := t.upTo(to)
	if !okA || !okB {
		return Estimate{}
	}
	e := Estimate{OK: true, Uj: int64(math.Round(b.uj - a.uj)), Channel: ChannelCounter}
	var marks []string
	// A lag that is off moves both ends of the interval alike.
	bound := a.bound + b.bound + math.Abs(b.mw-a.mw)*float64(t.profileErr)/1e6
	if past := t.pastCounter(from, to); past > 0 {
		e.Channel = t.profile
		bound += gainErr * past * math.Abs(b.uj-a.uj)
		if len(t.steps) > 0 {
			marks = append(marks, MarkCounter)
		} else {
			marks = append(marks, MarkNoCounter)
		}
	}
	if t.disputed {
		bound += math.Abs(b.profile - a.profile - (b.uj - a.uj))
		marks = append(marks, MarkDisputed)
	}
	if len(t.steps) < 2 && !t.learnt && (t.moves(from) || t.moves(to)) {
		marks = append(marks, MarkLag)
	}
	if t.c.gapIn(from+t.profileLag, to+t.profileLag) {
		marks = append(marks, MarkGap)
	}
	e.ErrorUj = int64(math.Ceil(bound))
	e.Marked = strings.Join(marks, "; ")
	return e
}

// pastCounter returns the share of [from, to] that lies so far beyond the counter's last step that it
// does not speak for it: all of it where there is no counter, some where it has come to a stand.
func (t *Trace) pastCounter(from, to int64) float64 {
	if len(t.steps) < 2 {
		return 1
	}
	end := t.steps[len(t.steps)-1].hi - t.tickLag + counterSpeaksNs
	return max(0, float64(to-max(from, end))/float64(to-from))
}

// point is the energy up to a moment, from an arbitrary start, how far it may be off, what the profile
// alone would have said, and the power.
type point struct{ uj, bound, profile, mw float64 }

// upTo returns the energy up to load time at.
func (t *Trace) upTo(at int64) (point, bool) {
	shaped := t.hasProfile() && t.c.covers(at+t.profileLag) && !t.c.inGap(at+t.profileLag)
	if len(t.steps) < 2 {
		if !shaped {
			return point{}, false
		}
		e := t.c.energy(at + t.profileLag)
		return point{e, t.profileBound(at), e, t.powerAt(at)}, true
	}
	low, high, ok := t.bracket(at)
	if !shaped {
		if !ok {
			return point{}, false
		}
		return t.between(at, low, high), true
	}
	uj, ok2 := t.scaled(at)
	if !ok2 {
		if !ok {
			return point{}, false
		}
		return t.between(at, low, high), true
	}
	p := point{uj, t.profileBound(at), t.c.energy(at + t.profileLag), t.powerAt(at)}
	if ok {
		p.uj = min(max(p.uj, float64(low.uj)), float64(high.uj))
		p.bound = min(p.bound, max(float64(high.uj)-p.uj, p.uj-float64(low.uj)))
	}
	return p, !math.IsInf(p.bound, 1)
}

// bracket returns the last step that was surely before load time at, and the first that was surely
// after it.
func (t *Trace) bracket(at int64) (low, high counterStep, ok bool) {
	slack := t.tickErr
	at += t.tickLag
	j := sort.Search(len(t.steps), func(i int) bool { return t.steps[i].lo >= at+slack })
	i := sort.Search(len(t.steps), func(i int) bool { return t.steps[i].hi > at-slack }) - 1
	if i < 0 || j == len(t.steps) {
		return counterStep{}, counterStep{}, false
	}
	return t.steps[i], t.steps[j], true
}

// between interpolates the counter alone.
func (t *Trace) between(at int64, low, high counterStep) point {
	part := float64(at+t.tickLag-low.mid()) / float64(high.mid()-low.mid())
	part = min(max(part, 0), 1)
	gain := float64(high.uj - low.uj)
	uj := float64(low.uj) + part*gain
	return point{uj, max(part, 1-part) * gain, uj, 0} // its bound holds whatever the profile's lag
}

// scaled returns the counter's energy at load time at, following the profile between two anchors. After
// the last anchor the profile goes on with the gain of the stretch before it.
func (t *Trace) scaled(at int64) (float64, bool) {
	prev, next := -1, -1
	for i, k := range t.steps {
		if !k.anchor || !t.c.covers(t.profileTime(k)) {
			continue
		}
		if prev >= 0 && t.steps[next].mid()-t.tickLag > at {
			break
		}
		prev, next = next, i
	}
	if prev < 0 {
		return 0, false
	}
	a, b := t.steps[prev], t.steps[next]
	if t.c.gapIn(min(t.profileTime(a), at+t.profileLag), max(t.profileTime(b), at+t.profileLag)) {
		return 0, false // the profile does not tell what lay in the gap
	}
	s, sa, sb := t.c.energy(at+t.profileLag), t.c.energy(t.profileTime(a)), t.c.energy(t.profileTime(b))
	if sb <= sa {
		return t.between(at, a, b).uj, true
	}
	gain := float64(b.uj-a.uj) / (sb - sa)
	if inside := at >= a.mid()-t.tickLag && at <= b.mid()-t.tickLag; !inside && (gain < 0.5 || gain > 2) {
		gain = 1
	}
	if at > b.mid()-t.tickLag {
		return float64(b.uj) + gain*(s-sb), true
	}
	return float64(a.uj) + gain*(s-sa), true
}

// profileTime returns when the curve shows what the counter showed at k.
func (t *Trace) profileTime(k counterStep) int64 { return k.mid() - t.tickLag + t.profileLag }

// profileBound bounds the error of following the profile at load time at: power that moved within the
// channel's window, or within what its lag may be off, is attributed to either side of at.
func (t *Trace) profileBound(at int64) float64 {
	window := max(t.windowNs, 2*t.profileLag) + t.stepNs
	at += t.profileLag
	reach := window + t.profileErr
	low, high := t.c.extremes(at-reach, at+reach)
	bound := float64(high-low) * (float64(window)/2 + float64(t.profileErr)) / 1e6
	if len(t.steps) >= 2 {
		return bound + 4*t.rms
	}
	floor, _ := t.c.extremes(t.c.at[0], t.c.at[len(t.c.at)-1])
	hidden := float64(high-floor) * float64(window) / 4 / 1e6
	return bound + hidden
}

// powerAt returns the power at load time at.
func (t *Trace) powerAt(at int64) float64 {
	if i := t.c.index(at + t.profileLag); i < len(t.c.mw) {
		return float64(t.c.mw[i])
	}
	return 0
}

// moves reports whether power changed so close to load time at that the lag matters.
func (t *Trace) moves(at int64) bool {
	if len(t.c.at) == 0 {
		return true
	}
	at += t.profileLag
	low, high := t.c.extremes(at-t.profileErr, at+t.profileErr)
	return float64(high-low) > 0.05*float64(high)
}

// enoughPredictions is how many predictions give an rms that is taken as it is. With one fewer it counts
// twice, with still fewer it is not known.
const enoughPredictions = 4

// residual returns the rms of predicting each anchor from its two neighbours by the profile, and from how
// many predictions.
func (t *Trace) residual() (rms float64, n int) {
	if !t.hasProfile() {
		return math.Inf(1), 0
	}
	var sum float64
	var a, b counterStep
	for _, k := range t.steps {
		if !k.anchor || !t.c.covers(t.profileTime(k)) {
			continue
		}
		if a.hi != 0 && !t.c.gapIn(t.profileTime(a), t.profileTime(k)) {
			sa, sb, sk := t.c.energy(t.profileTime(a)), t.c.energy(t.profileTime(b)), t.c.energy(t.profileTime(k))
			if sk > sa {
				off := float64(b.uj-a.uj) - (sb-sa)*float64(k.uj-a.uj)/(sk-sa)
				sum, n = sum+off*off, n+1
			}
		}
		a, b = b, k
	}
	switch rms = math.Sqrt(sum / float64(n)); {
	case n >= enoughPredictions:
		return rms, n
	case n == enoughPredictions-1:
		return 2 * rms, n
	}
	return math.Inf(1), n
}
