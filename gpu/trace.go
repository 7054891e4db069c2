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
	MarkDisputed  = "energy counter and integrated power disagree"
	MarkLag       = "lag not learnt yet"
	MarkGap       = "samples missed"
)

// Trace turns one device's batches into energy. The samples give the shape in time, with their lag
// removed; the counter gives the amount: between two of its steps a second or more apart, the shape is
// scaled to what the counter says. A Trace keeps a window of the past and forgets the rest; it belongs
// to one goroutine.
//
// The bound on the error needs no trust in the shape: the energy at a moment lies between what the
// counter showed at its last step before and at its first step after. Where the shape has proved itself
// against the counter's steps (each predicted from its two neighbours), the bound is the tighter one of
// the two.
type Trace struct {
	keepNs int64
	epoch  int
	began  bool

	c       powerHistory
	knots   []knot
	doubted knot // the counter's last step, where it is not believed yet; hi 0: none

	shape    Channel
	shapeLag int64
	tickLag  int64
	stepNs   int64
	windowNs int64
	shapeErr int64 // what the lags may be off
	tickErr  int64
	learnt   bool
	disputed bool

	rms       float64 // of predicting a knot from its neighbours, in microjoules; infinite until known
	predicted int     // how many predictions it comes from
}

// knot is one step of the counter.
type knot struct {
	lo, hi int64
	uj     int64
	anchor bool // the shape is scaled between anchors
}

func (k knot) mid() int64    { return k.lo + (k.hi-k.lo)/2 }
func (k knot) anchors() bool { return k.anchor }

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
	if !t.began || b.Epoch != t.epoch || b.Profile != t.shape {
		t.c.reset()
		if b.Epoch != t.epoch || !t.began {
			t.knots, t.doubted = t.knots[:0], knot{}
		}
		t.began, t.epoch, t.shape, t.rms, t.predicted = true, b.Epoch, b.Profile, math.Inf(1), 0
	}
	t.shapeLag, t.tickLag, t.learnt = b.ProfileLagNs, b.TickLagNs, b.LagsLearnt
	t.shapeErr, t.tickErr = b.ProfileErrNs, b.TickErrNs
	t.stepNs, t.windowNs, t.disputed = b.StepNs, b.WindowNs, b.Disputed
	t.c.gapNs = gapAfter(b.StepNs)
	t.c.add(b.Samples...)
	for _, k := range b.Ticks {
		t.addKnot(k)
	}
	if len(b.Ticks) > 0 {
		t.rms, t.predicted = t.residual()
	}
	t.forget()
}

// gapAfter returns the distance between samples that counts as a gap. Polled power is polled more
// slowly than it changes while nothing is in flight.
func gapAfter(stepNs int64) int64 { return 5 * max(stepNs, idlePollNs) }

func (t *Trace) addKnot(k Tick) {
	if !k.OK {
		return
	}
	if n := len(t.knots); n > 0 && t.knots[n-1].uj == k.Uj {
		last := &t.knots[n-1]
		if lo, hi := max(last.lo, k.Lo), min(last.hi, k.Hi); lo < hi {
			last.lo, last.hi = lo, hi
			t.anchorLast()
		}
		return
	}
	next := knot{lo: k.Lo, hi: k.Hi, uj: k.Uj}
	if d := t.doubted; d.hi != 0 {
		t.doubted = knot{}
		if d.uj == next.uj { // it has not moved since; this look may know better when it did
			if lo, hi := max(d.lo, next.lo), min(d.hi, next.hi); lo < hi {
				d.lo, d.hi = lo, hi
			}
			next = d
		} else { // it moves on: so it was right
			t.knots = append(t.knots, d)
			t.anchorLast()
		}
	}
	if t.doubts(next) {
		t.doubted = next
		return
	}
	t.knots = append(t.knots, next)
	t.anchorLast()
}

// doubts says whether a step is off by more than three times what steps use to be from what the shape makes of those before it. A
// counter that has come to a stand looks like that: its last value is taken for one that it took just now. Such a
// step waits until the counter has moved again.
func (t *Trace) doubts(k knot) bool {
	if math.IsInf(t.rms, 1) || len(t.knots) == 0 {
		return false
	}
	said, ok := t.scaled(k.mid() - t.tickLag)
	return ok && math.Abs(said-float64(k.uj)) > 3*t.rms
}

// unsure says whether a look at the counter would tell more than it usually does: whether samples follow it is not
// known yet, or its last step is doubted.
func (t *Trace) unsure() bool {
	return t.shaped() && t.predicted < enoughPredictions || t.doubted.hi != 0
}

// anchorLast makes the last knot an anchor if it is far enough from the one before and placed sharply
// for that distance. A blunt anchor gives way to a sharp one that comes soon after it.
func (t *Trace) anchorLast() {
	n := len(t.knots) - 1
	k := &t.knots[n]
	if k.anchor {
		return
	}
	for i := n - 1; i >= 0; i-- {
		a := &t.knots[i]
		if !a.anchor {
			continue
		}
		apart := k.mid() - a.mid()
		if apart < anchorEveryNs && a.hi-a.lo > 3*(k.hi-k.lo) {
			a.anchor, k.anchor = false, true
			return
		}
		k.anchor = apart >= anchorEveryNs && k.hi-k.lo <= apart/anchorSharp
		if first := !slices.ContainsFunc(t.knots[:i], knot.anchors); first && a.hi-a.lo > apart/anchorSharp && a.hi-a.lo > 3*(k.hi-k.lo) {
			a.anchor, k.anchor = false, true // made before the rhythm was known
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
	if n := len(t.knots); n > 0 {
		last = max(last, t.knots[n-1].hi)
	}
	t.c.trim(last - t.keepNs)
	i := sort.Search(len(t.knots), func(i int) bool { return t.knots[i].hi >= last-t.keepNs })
	if i > len(t.knots)/2 {
		t.knots = append(t.knots[:0], t.knots[i:]...)
	}
}

// shaped says whether there are samples that tell more than the counter: those that were made of its
// own ticks serve for learning its lag, not here.
func (t *Trace) shaped() bool { return t.shape != "" && t.shape != ChannelCounter }

// Until returns up to which moment of the load Energy can tell anything; 0 where nothing is known.
func (t *Trace) Until() int64 {
	if n := len(t.c.at); n > 0 {
		return t.c.at[n-1] - t.shapeLag
	}
	if n := len(t.knots); n > 0 {
		return t.knots[n-1].lo - t.tickLag
	}
	return 0
}

// since returns from which moment of the load on Energy can soon tell something with a bound.
func (t *Trace) since() (at int64) {
	if t.shaped() && len(t.c.at) > 0 {
		at = t.c.at[0] - t.shapeLag
	}
	if len(t.knots) > 0 {
		at = max(at, t.knots[0].hi-t.tickLag+t.tickErr)
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
	bound := a.bound + b.bound + math.Abs(b.mw-a.mw)*float64(t.shapeErr)/1e6
	if past := t.pastCounter(from, to); past > 0 {
		e.Channel = t.shape
		bound += gainErr * past * math.Abs(b.uj-a.uj)
		marks = append(marks, MarkNoCounter)
	}
	if t.disputed {
		bound += math.Abs(b.shape - a.shape - (b.uj - a.uj))
		marks = append(marks, MarkDisputed)
	}
	if len(t.knots) < 2 && !t.learnt && (t.moves(from) || t.moves(to)) {
		marks = append(marks, MarkLag)
	}
	if len(t.knots) < 2 && t.c.gapIn(from+t.shapeLag, to+t.shapeLag) {
		marks = append(marks, MarkGap)
	}
	e.ErrorUj = int64(math.Ceil(bound))
	e.Marked = strings.Join(marks, "; ")
	return e
}

// pastCounter returns the share of [from, to] that lies so far beyond the counter's last step that it
// does not speak for it: all of it where there is no counter, some where it has come to a stand.
func (t *Trace) pastCounter(from, to int64) float64 {
	if len(t.knots) < 2 {
		return 1
	}
	end := t.knots[len(t.knots)-1].hi - t.tickLag + counterSpeaksNs
	return max(0, float64(to-max(from, end))/float64(to-from))
}

// point is the energy up to a moment, from an arbitrary start, how far it may be off, what the shape
// alone would have said, and the power.
type point struct{ uj, bound, shape, mw float64 }

// upTo returns the energy up to load time at.
func (t *Trace) upTo(at int64) (point, bool) {
	shaped := t.shaped() && t.c.covers(at+t.shapeLag)
	if len(t.knots) < 2 {
		if !shaped {
			return point{}, false
		}
		e := t.c.energy(at + t.shapeLag)
		return point{e, t.shapeBound(at), e, t.powerAt(at)}, true
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
		return point{}, false
	}
	p := point{uj, t.shapeBound(at), t.c.energy(at + t.shapeLag), t.powerAt(at)}
	if ok {
		p.uj = min(max(p.uj, float64(low.uj)), float64(high.uj))
		p.bound = min(p.bound, max(float64(high.uj)-p.uj, p.uj-float64(low.uj)))
	}
	return p, !math.IsInf(p.bound, 1)
}

// bracket returns the last knot that was surely before load time at, and the first that was surely
// after it.
func (t *Trace) bracket(at int64) (low, high knot, ok bool) {
	slack := t.tickErr
	at += t.tickLag
	j := sort.Search(len(t.knots), func(i int) bool { return t.knots[i].lo >= at+slack })
	i := sort.Search(len(t.knots), func(i int) bool { return t.knots[i].hi > at-slack }) - 1
	if i < 0 || j == len(t.knots) {
		return knot{}, knot{}, false
	}
	return t.knots[i], t.knots[j], true
}

// between interpolates the counter alone.
func (t *Trace) between(at int64, low, high knot) point {
	part := float64(at+t.tickLag-low.mid()) / float64(high.mid()-low.mid())
	part = min(max(part, 0), 1)
	gain := float64(high.uj - low.uj)
	uj := float64(low.uj) + part*gain
	return point{uj, max(part, 1-part) * gain, uj, 0} // its bound holds whatever the shape's lag
}

// scaled returns the counter's energy at load time at, following the shape between two anchors. After
// the last anchor the shape goes on with the gain of the stretch before it.
func (t *Trace) scaled(at int64) (float64, bool) {
	prev, next := -1, -1
	for i, k := range t.knots {
		if !k.anchor || !t.c.covers(t.shapeTime(k)) {
			continue
		}
		if prev >= 0 && t.knots[next].mid()-t.tickLag > at {
			break
		}
		prev, next = next, i
	}
	if prev < 0 {
		return 0, false
	}
	a, b := t.knots[prev], t.knots[next]
	s, sa, sb := t.c.energy(at+t.shapeLag), t.c.energy(t.shapeTime(a)), t.c.energy(t.shapeTime(b))
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

// shapeTime returns when the curve shows what the counter showed at k.
func (t *Trace) shapeTime(k knot) int64 { return k.mid() - t.tickLag + t.shapeLag }

// shapeBound bounds the error of following the shape at load time at: power that moved within the
// channel's window, or within what its lag may be off, is attributed to either side of at.
func (t *Trace) shapeBound(at int64) float64 {
	window := max(t.windowNs, 2*t.shapeLag) + t.stepNs
	at += t.shapeLag
	reach := window + t.shapeErr
	low, high := t.c.extremes(at-reach, at+reach)
	bound := float64(high-low) * (float64(window)/2 + float64(t.shapeErr)) / 1e6
	if len(t.knots) >= 2 {
		return bound + 4*t.rms
	}
	floor, _ := t.c.extremes(t.c.at[0], t.c.at[len(t.c.at)-1])
	hidden := float64(high-floor) * float64(window) / 4 / 1e6
	return bound + hidden
}

// powerAt returns the power at load time at.
func (t *Trace) powerAt(at int64) float64 {
	if i := t.c.index(at + t.shapeLag); i < len(t.c.mw) {
		return float64(t.c.mw[i])
	}
	return 0
}

// moves says whether power changed so near to load time at that the lag matters.
func (t *Trace) moves(at int64) bool {
	if len(t.c.at) == 0 {
		return true
	}
	at += t.shapeLag
	low, high := t.c.extremes(at-t.shapeErr, at+t.shapeErr)
	return float64(high-low) > 0.05*float64(high)
}

// enoughPredictions is how many predictions give an rms that is taken as it is. With one fewer it counts
// twice, with still fewer it is not known.
const enoughPredictions = 4

// residual returns the rms of predicting each anchor from its two neighbours by the shape, and from how
// many predictions.
func (t *Trace) residual() (rms float64, n int) {
	if !t.shaped() {
		return math.Inf(1), 0
	}
	var sum float64
	var a, b knot
	for _, k := range t.knots {
		if !k.anchor || !t.c.covers(t.shapeTime(k)) {
			continue
		}
		if a.hi != 0 {
			sa, sb, sk := t.c.energy(t.shapeTime(a)), t.c.energy(t.shapeTime(b)), t.c.energy(t.shapeTime(k))
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
