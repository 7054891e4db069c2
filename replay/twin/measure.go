package twin

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"wattline/meter"
	"wattline/replay"
)

// sample is what was measured of one request on one side; null: not obtained.
type sample struct {
	cached meter.Int
	ttftUs replay.Num
	tpotUs replay.Num // decode time a token behind the first
	joules replay.Num
	brief  bool // decode was too short for a time a token
}

// pair is one request of a trace on both sides.
type pair struct {
	at   int // number of the record in the trace
	a, b sample
	// left: its client left, so it may have no first token and no counts. unstreamed: it has no first token.
	left, unstreamed bool
}

// figure is a value of a side that A and B are compared by: a quantile of one quantity, or its sum.
type figure struct {
	key, title, unit string
	quantile         float64 // 0: the sum
	of               func(*sample) replay.Num
	bound            float64          // of B against A, as a part of A: within it a twin is proven
	least            float64          // in units: smaller differences are within it too
	bare             func(*pair) bool // whether a request may lack it by its nature
}

func cached(s *sample) replay.Num { return number(s.cached) }
func ttft(s *sample) replay.Num   { return s.ttftUs.Times(1e-3) }
func tpot(s *sample) replay.Num   { return s.tpotUs.Times(1e-3) }
func joules(s *sample) replay.Num { return s.joules }

func leftEarly(p *pair) bool    { return p.left }
func noFirstToken(p *pair) bool { return p.left || p.unstreamed }
func noDecode(p *pair) bool     { return p.left || p.unstreamed || p.a.brief || p.b.brief }
func never(*pair) bool          { return false }

//nolint:gochecknoglobals // a constant table
var figures = []figure{
	{"cached_tokens", "cached tokens of all requests", "tokens", 0, cached, 0.05, 0, leftEarly},
	{"ttft_p50", "TTFT, median", "ms", 0.5, ttft, 0.10, 2, noFirstToken},
	{"ttft_p90", "TTFT, p90", "ms", 0.9, ttft, 0.10, 2, noFirstToken},
	{"tpot_p50", "decode time a token, median", "ms", 0.5, tpot, 0.05, 0, noDecode},
	{"tpot_p90", "decode time a token, p90", "ms", 0.9, tpot, 0.05, 0, noDecode},
	{"joules", "joules of all requests", "J", 0, joules, 0.05, 0, never},
}

// Measure is one figure of both sides.
type Measure struct {
	Key      string     `json:"measure"`
	Title    string     `json:"title"`
	Unit     string     `json:"unit"`
	Requests int        `json:"requests"` // that have it on both sides
	A        replay.Num `json:"a"`
	B        replay.Num `json:"b"`
	Percent  replay.Num `json:"percent"` // B against A
	Low      replay.Num `json:"low"`     // 95 % interval
	High     replay.Num `json:"high"`
	Bound    replay.Num `json:"bound_percent"` // within which a twin reproduces it
	State    State      `json:"state"`
	Why      string     `json:"why,omitempty"` // it is not measured
}

// State is what an interval says about a bound.
type State string

// The states of a measure.
const (
	Reproduced    State = "reproduced"     // the interval is within the bound
	NotReproduced State = "not reproduced" // it is outside
	CannotTell    State = "cannot tell"    // it is partly outside: the trace is too short, or the machine was not quiet
	NotMeasured   State = "not measured"
)

// Requests are drawn together in stretches of neighbours, as these depend on each other.
const (
	stretchRequests = 4
	mostStretches   = 50
	leastStretches  = 5
	resamples       = 1000
	mostMissing     = 0.05 // share of pairs without a value
)

// measure compares the sides of pairs by a figure. Pairs are in the order of the trace.
func measure(f *figure, pairs []pair) Measure {
	m := Measure{Key: f.key, Title: f.title, Unit: f.unit, State: NotMeasured}
	var a, b []float64
	missing := 0
	for i := range pairs {
		if v, w := f.of(&pairs[i].a), f.of(&pairs[i].b); v.Valid && w.Valid {
			a, b = append(a, v.V), append(b, w.V)
		} else if !f.bare(&pairs[i]) {
			missing++
		}
	}
	m.Requests = len(a)
	// Those that have a value would be a choice if many had none.
	if of := len(a) + missing; float64(missing) > mostMissing*float64(of) {
		m.Why = fmt.Sprintf("%d of %d requests do not have it on both sides", missing, of)
		return m
	}
	units := min(len(a)/stretchRequests, mostStretches)
	if units < leastStretches {
		m.Why = fmt.Sprintf("%d requests have it on both sides, and at least %d are needed", len(a), leastStretches*stretchRequests)
		return m
	}
	x, y := newDrawn(a, units), newDrawn(b, units)
	count := make([]int, units)
	for i := range count {
		count[i] = 1
	}
	va, vb := x.value(f.quantile, count), y.value(f.quantile, count)
	if !(va > 0 && vb > 0) {
		m.Why = fmt.Sprintf("it is %.4g %s on one side and %.4g on the other, and a part of nothing is no measure", va, f.unit, vb)
		return m
	}
	effect := math.Log(vb / va)
	effects := make([]float64, 0, resamples)
	rng := rand.New(rand.NewPCG(25, uint64(len(a))))
	for range resamples {
		clear(count)
		for range units {
			count[rng.IntN(units)]++
		}
		if p, q := x.value(f.quantile, count), y.value(f.quantile, count); p > 0 && q > 0 {
			effects = append(effects, math.Log(q/p))
		}
	}
	slices.Sort(effects)
	// Percentiles of few units are too narrow by the ratio of Student's to the normal quantile, and by that of n to n - 1
	// (Hesterberg, The American Statistician 69, 2015, p. 371).
	n := float64(units)
	wider := distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile(0.975) / distuv.UnitNormal.Quantile(0.975) * math.Sqrt(n/(n-1))
	low := effect - wider*(effect-effects[replay.Rank(0.025, len(effects))])
	high := effect + wider*(effects[replay.Rank(0.975, len(effects))]-effect)
	percent := func(log float64) replay.Num { return replay.Some(100 * math.Expm1(log)) }
	m.A, m.B, m.Percent, m.Low, m.High = replay.Some(va), replay.Some(vb), percent(effect), percent(low), percent(high)
	bound := max(f.bound, f.least/va)
	m.Bound = replay.Some(100 * bound)
	m.State = judge(m.Low.V, m.High.V, m.Bound.V)
	return m
}

// judge compares an interval with -bound .. bound.
func judge(low, high, bound float64) State {
	switch {
	case low >= -bound && high <= bound:
		return Reproduced
	case low > bound || high < -bound:
		return NotReproduced
	}
	return CannotTell
}

// drawn are the values of a side, sorted, each with the stretch that it is of.
type drawn struct {
	sorted []float64
	unit   []int
}

func newDrawn(values []float64, units int) *drawn {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Or(cmp.Compare(values[i], values[j]), cmp.Compare(i, j)) })
	d := &drawn{}
	for _, i := range order {
		d.sorted, d.unit = append(d.sorted, values[i]), append(d.unit, i*units/len(values))
	}
	return d
}

// value is a quantile (nearest rank), or with 0 the sum, of the values with each stretch taken count times.
func (d *drawn) value(quantile float64, count []int) float64 {
	n, sum := 0, 0.0
	for i, u := range d.unit {
		n += count[u]
		sum += float64(count[u]) * d.sorted[i]
	}
	if quantile == 0 {
		return sum
	}
	if n == 0 {
		return math.NaN()
	}
	rank := replay.Rank(quantile, n)
	for i, u := range d.unit {
		if rank -= count[u]; rank < 0 {
			return d.sorted[i]
		}
	}
	return math.NaN()
}
