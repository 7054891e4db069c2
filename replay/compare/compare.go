package compare

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/stat"

	"wattline/replay"
	"wattline/replay/twin"
)

// Verdict is what an interval says about B against A.
type Verdict string

// The verdicts.
const (
	Better      Verdict = "better"
	Worse       Verdict = "worse"
	Same        Verdict = "same within the margin"
	CannotTell  Verdict = "cannot tell"
	NotMeasured Verdict = "not measured"
)

// Options of a comparison.
type Options struct {
	Margin    float64 // effects below it do not matter; 0: DefaultMargin
	Resamples int     // of the bootstrap; 0: 2000
	Seed      uint64
	Metrics   []string // keys; empty: all
	// Look leaves out what a look during a session does not need: the bootstrap, cells, floor and drift.
	Look bool
}

// DefaultMargin is 2 %.
const DefaultMargin = 0.02

const (
	defaultResamples = 2000
	level            = 0.95
	alpha            = 1 - level
	mostShare        = 0.9  // of a cell's requests that must have a metric
	leastShown       = 0.05 // weight of a stratum that is shown alone
)

// Interval is an effect in percent of A, with its 95 % interval.
type Interval struct {
	Percent replay.Num `json:"percent"`
	Low     replay.Num `json:"low"`
	High    replay.Num `json:"high"`
}

// Cell is the effect in one cell or stratum. Its interval is of the cell alone and not corrected.
type Cell struct {
	Name   string     `json:"name"`
	Weight replay.Num `json:"weight"`
	A      replay.Num `json:"a"` // geometric means
	B      replay.Num `json:"b"`
	Effect Interval   `json:"effect"`
}

// Metric is the comparison by one figure.
type Metric struct {
	Key         string     `json:"metric"`
	Title       string     `json:"title"`
	Unit        string     `json:"unit"`
	LowerBetter bool       `json:"lower_is_better"`
	A           replay.Num `json:"a"` // weighted geometric means
	B           replay.Num `json:"b"`
	Effect      Interval   `json:"effect"` // B against A
	P           replay.Num `json:"p"`      // of no effect, corrected by Holm
	PSame       replay.Num `json:"p_outside_margin"`
	Floor       replay.Num `json:"floor_percent"` // 95 % of A against A
	Drift       replay.Num `json:"drift_percent"` // over the session, both sides together
	Verdict     Verdict    `json:"verdict"`
	More        replay.Num `json:"more_rounds"` // that would tell; null where there is a verdict
	Why         string     `json:"why,omitempty"`
	Cells       []Cell     `json:"cells,omitempty"`
}

// Result is a comparison.
type Result struct {
	A       *Side      `json:"a"`
	B       *Side      `json:"b"`
	Margin  float64    `json:"margin_percent"`
	Design  string     `json:"design"` // how A and B were measured
	Unit    string     `json:"unit"`   // what is drawn: rounds, trials, stretches
	Units   int        `json:"units"`
	Overlap replay.Num `json:"overlap"` // of the mixes, stored rows only
	Refusal string     `json:"refusal,omitempty"`
	Invalid bool       `json:"invalid"` // a run failed a check that the design does not bear
	// Price is what a trace costs in all; nil: the runs are of none.
	Price    *twin.Price `json:"price,omitempty"`
	Metrics  []Metric    `json:"metrics"`
	Notes    []string    `json:"notes"`
	Seconds  replay.Num  `json:"seconds,omitzero"` // of a live session
	Resample int         `json:"resamples"`

	proven, joules bool // of a twin
}

// interleaved is the design of a session in rounds.
const interleaved = "interleaved, A B B A"

// Has reports whether any metric has the verdict.
func (r *Result) Has(v Verdict) bool {
	return slices.ContainsFunc(r.Metrics, func(m Metric) bool { return m.Verdict == v })
}

// When an interleaved session has measured enough: not before MinRounds, as the spread of fewer is too uncertain, and
// then when the half of each interval is at most Narrow of the margin. Whether there is an effect does not enter, so that
// the intervals stay true.
const (
	MinRounds = 6
	Narrow    = 0.5
)

// Widest is the half of the widest interval as a part of the margin; 0 without an interval.
func (r *Result) Widest() (out float64) {
	for _, m := range r.Metrics {
		if m.Effect.Low.Valid && m.Effect.High.Valid {
			out = max(out, (m.Effect.High.V-m.Effect.Low.V)/2/r.Margin)
		}
	}
	return out
}

// borne are the checks whose failures an interleaved session bears: what disturbs the machine meets both sides alike.
//
//nolint:gochecknoglobals // a constant list
var borne = []string{"stalls", "throttling", "other GPU users", "other traffic"}

// pairing is what all metrics have in common.
type pairing struct {
	sides  [2]*Side
	cells  []string
	share  []float64 // weights of the cells
	paired bool
	units  map[int]int // of paired rounds
	trials [2][]int    // of unpaired sides, sorted
	byCell [2]map[string][]*observation
	opt    Options
}

// index lists the observations by cell.
func (p *pairing) index() {
	for s, side := range p.sides {
		p.byCell[s] = map[string][]*observation{}
		for i := range side.observations {
			o := &side.observations[i]
			p.byCell[s][o.cell] = append(p.byCell[s][o.cell], o)
		}
	}
}

// Compare compares B with A. An error is a sentence: they cannot be compared.
func Compare(a, b *Side, opt Options) (*Result, error) {
	if opt.Margin == 0 {
		opt.Margin = DefaultMargin
	}
	if opt.Resamples == 0 {
		opt.Resamples = defaultResamples
	}
	if opt.Look {
		opt.Resamples = 0
	}
	if err := matching(a, b); err != nil {
		return nil, err
	}
	r := &Result{A: a, B: b, Margin: 100 * opt.Margin, Resample: opt.Resamples}
	p := &pairing{sides: [2]*Side{a, b}, opt: opt}
	p.index()
	switch {
	case a.strata:
		p.strata(r)
	case a.trace != "":
		p.recorded(r)
	default:
		p.workload(r)
	}
	for s, side := range p.sides {
		for _, f := range side.Failed {
			check, _, _ := strings.Cut(f, ":")
			if r.Design == interleaved && slices.Contains(borne, check) {
				r.Notes = append(r.Notes, fmt.Sprintf("%s: %s (it meets both sides in turn, and widens the intervals)", name(s), f))
				continue
			}
			r.Invalid = true
			r.Notes = append(r.Notes, fmt.Sprintf("%s is INVALID: %s", name(s), f))
		}
		if side.Simulated {
			r.Notes = append(r.Notes, fmt.Sprintf("the energy of %s is SIMULATED: no joule in it was measured", name(s)))
		}
		if side.Errors > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: %d of %d requests failed; the effects are of those that were answered", name(s), side.Errors, side.Errors+side.Requests))
		}
	}
	if a.Model != b.Model {
		r.Notes = append(r.Notes, fmt.Sprintf("A ran %s, B ran %s", a.Model, b.Model))
	}
	if r.Refusal == "" {
		p.measure(r)
	}
	return r, nil
}

func name(side int) string { return string(rune('A' + side)) }

// workload prepares the cells of a run.
func (p *pairing) workload(r *Result) {
	a, b := p.sides[0], p.sides[1]
	p.cells = common(a, b)
	for range p.cells {
		p.share = append(p.share, 1/float64(len(p.cells)))
	}
	for s, side := range p.sides {
		var alone []string
		for _, c := range side.cells {
			if c != allCells && !slices.Contains(p.cells, c) {
				alone = append(alone, c)
			}
		}
		if len(alone) > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("only in %s, and left out: %s", name(s), strings.Join(alone, ", ")))
		}
	}
	if Interleaved(a, b) {
		p.paired, p.units = true, wholeRounds(a, b)
		r.Design, r.Unit, r.Units = interleaved, "rounds", len(p.units)
		return
	}
	for s, side := range p.sides {
		p.trials[s] = trialsOf(side)
	}
	r.Design, r.Unit, r.Units = "one after the other", "trials", min(len(p.trials[0]), len(p.trials[1]))
	r.Notes = append(r.Notes, "A and B were not measured in turn: what drifted between them is part of the effect. `wattline compare --a URL --b URL` removes it")
}

func trialsOf(s *Side) (out []int) {
	for _, o := range s.observations {
		if !slices.Contains(out, o.trial) {
			out = append(out, o.trial)
		}
	}
	slices.Sort(out)
	return out
}

// unit is the drawn unit of an observation, -1 if it is of none.
func (p *pairing) unit(side int, o *observation) int {
	if p.paired {
		if u, ok := p.units[o.trial/roundSize]; ok {
			return u
		}
		return -1
	}
	u, ok := slices.BinarySearch(p.trials[side], o.trial)
	if !ok {
		return -1
	}
	return u
}

func (p *pairing) unitCount(side int) int {
	if p.paired {
		return len(p.units)
	}
	return len(p.trials[side])
}

// design takes a metric's values of some cells.
func (p *pairing) design(m int, cells []string, weights []float64) *design {
	d := &design{weights: weights, paired: p.paired}
	for s := range p.sides {
		d.y[s] = make([][][]float64, p.unitCount(s))
		for u := range d.y[s] {
			d.y[s][u] = make([][]float64, len(cells))
		}
		for c, cell := range cells {
			for _, o := range p.byCell[s][cell] {
				if u := p.unit(s, o); u >= 0 && !math.IsNaN(o.y[m]) {
					d.y[s][u][c] = append(d.y[s][u][c], o.y[m])
				}
			}
		}
	}
	return d
}

// measured are the cells in which nearly all requests of both sides have the metric, with their weights. Otherwise those
// that have it would be a choice: joules, for example, are null where they are few.
func (p *pairing) measured(m int) (cells []string, weights []float64) {
	if metrics[m].peak && !p.sides[0].strata {
		return []string{allCells}, []float64{1}
	}
	total := 0.0
	for i, c := range p.cells {
		enough := true
		for s := range p.sides {
			have, of := 0, 0
			for _, o := range p.byCell[s][c] {
				if p.unit(s, o) >= 0 {
					of++
					if !math.IsNaN(o.y[m]) {
						have++
					}
				}
			}
			enough = enough && have > 0 && float64(have) >= mostShare*float64(of)
		}
		if enough {
			cells, weights = append(cells, c), append(weights, p.share[i])
			total += p.share[i]
		}
	}
	for i := range weights {
		weights[i] /= total
	}
	return cells, weights
}

// measure compares by each metric.
func (p *pairing) measure(r *Result) {
	var estimates []estimate
	var differs, outside []float64
	var told []int // indexes of metrics with an interval
	for m := range metrics {
		if len(p.opt.Metrics) > 0 && !slices.Contains(p.opt.Metrics, metrics[m].key) {
			continue
		}
		out, e := p.metric(m)
		if r.Price != nil && !r.joules && ofJoules(out.Key) {
			out, e = Metric{Key: out.Key, Title: out.Title, Unit: out.Unit, LowerBetter: out.LowerBetter, Verdict: NotMeasured}, estimate{effect: math.NaN()}
		}
		if e.known() {
			told = append(told, len(r.Metrics))
			differs, outside = append(differs, e.differs()), append(outside, e.outside(p.margin()))
		}
		r.Metrics, estimates = append(r.Metrics, out), append(estimates, e)
	}
	differs, outside = holm(differs), holm(outside)
	for i, at := range told {
		m := &r.Metrics[at]
		m.P, m.PSame = replay.Some(differs[i]), replay.Some(outside[i])
		p.judge(m, &estimates[at], len(told))
	}
}

// margin as a logarithm.
func (p *pairing) margin() float64 { return math.Log1p(p.opt.Margin) }

// metric estimates one figure, without a verdict yet.
func (p *pairing) metric(m int) (Metric, estimate) {
	of := &metrics[m]
	out := Metric{Key: of.key, Title: of.title, Unit: of.unit, LowerBetter: of.lower, Verdict: NotMeasured}
	cells, weights := p.measured(m)
	if len(cells) == 0 {
		return out, estimate{effect: math.NaN()}
	}
	d := p.design(m, cells, weights)
	e := d.estimate(p.opt.Resamples, p.opt.Seed)
	if math.IsNaN(e.effect) {
		return out, e
	}
	out.A, out.B = d.mean(0), d.mean(1)
	out.Effect = e.percent()
	out.Verdict = CannotTell
	if p.opt.Look {
		return out, e
	}
	out.Floor = percent(p.floor(m, cells, weights))
	out.Drift = p.drift(m, cells)
	if !e.known() {
		out.Why = fmt.Sprintf("one trial has no spread: measure at least %d", minUnits)
		if p.sides[0].trace != "" {
			out.Why = fmt.Sprintf("one stretch of %d requests has no spread: send at least %d requests", stretchRows, minUnits*stretchRows)
		}
	}
	if len(cells) > 1 {
		for i, c := range cells {
			if p.sides[0].strata && weights[i] < leastShown {
				continue
			}
			alone := p.design(m, []string{c}, []float64{1})
			ce := alone.estimate(p.opt.Resamples/4, p.opt.Seed+1)
			out.Cells = append(out.Cells, Cell{Name: c, Weight: replay.Some(weights[i]), A: alone.mean(0), B: alone.mean(1), Effect: ce.percent()})
		}
	}
	return out, e
}

// judge gives the verdict, by corrected p-values and the floor.
func (p *pairing) judge(m *Metric, e *estimate, tests int) {
	size := math.Abs(e.effect)
	low := 0.0
	if m.Floor.Valid {
		low = math.Log1p(m.Floor.V / 100)
	}
	switch {
	case m.PSame.V <= alpha:
		m.Verdict = Same
		return
	case m.P.V <= alpha && size > low:
		m.Verdict = Better
		if (e.effect > 0) == m.LowerBetter {
			m.Verdict = Worse
		}
		return
	}
	m.Verdict = CannotTell
	a, b := e.interval(1 - alpha/float64(tests))
	half := (b - a) / 2
	needed := max(size, p.margin()-size)
	units := float64(min(p.unitCount(0), p.unitCount(1)))
	more := units*(half/needed)*(half/needed) - units
	if m.P.V <= alpha && low >= size { // the floor is in the way
		m.Why = "the effect is inside the floor"
		more = units*(low/size)*(low/size) - units
	}
	m.More = replay.Some(math.Max(1, math.Ceil(more)))
}

// percent is the effect and its interval in percent.
func (e *estimate) percent() Interval {
	low, high := e.interval(level)
	return Interval{percent(e.effect), percent(low), percent(high)}
}

func percent(log float64) replay.Num { return replay.Some(100 * math.Expm1(log)) }

// mean is the weighted geometric mean of a side.
func (d *design) mean(side int) replay.Num {
	t := 0.0
	for c, w := range d.weights {
		sum, n := 0.0, 0
		for u := range d.y[side] {
			for _, v := range d.y[side][u][c] {
				sum += v
				n++
			}
		}
		if n == 0 {
			return replay.Num{}
		}
		t += w * sum / float64(n)
	}
	return replay.Some(math.Exp(t))
}

// floor is what A against A shows, at the size of the comparison: its trials in neighbouring pairs (of a round, its first
// and its last trial), with a sign by chance. It is the effect that 95 % of these do not exceed; NaN without a pair.
func (p *pairing) floor(m int, cells []string, weights []float64) float64 {
	units := p.unitCount(0)
	pairs, scale := units, math.Sqrt(0.5) // a round compares two trials of A with two of B
	if !p.paired {
		pairs = units / 2
		scale = math.Sqrt(float64(pairs) / float64(max(units, 1)))
	}
	d := &design{weights: weights}
	for h := range d.y {
		d.y[h] = make([][][]float64, pairs)
		for u := range d.y[h] {
			d.y[h][u] = make([][]float64, len(cells))
		}
	}
	for c, cell := range cells {
		for _, o := range p.byCell[0][cell] {
			u := p.unit(0, o)
			if u < 0 || math.IsNaN(o.y[m]) {
				continue
			}
			half, pair := u%2, u/2
			if p.paired {
				half, pair = o.trial%2, u // trials 0 and 3 of a round are A's
			}
			if pair < pairs {
				d.y[half][pair][c] = append(d.y[half][pair][c], o.y[m])
			}
		}
	}
	var differences []float64
	for u := range pairs {
		one := &design{weights: weights, y: [2][][][]float64{{d.y[0][u]}, {d.y[1][u]}}}
		if e := one.estimate(0, 0); !math.IsNaN(e.effect) {
			differences = append(differences, e.effect*scale)
		}
	}
	if len(differences) == 0 {
		return math.NaN()
	}
	const draws = 4096
	rng := rand.New(rand.NewPCG(p.opt.Seed, uint64(len(differences))))
	effects := make([]float64, draws)
	for i := range effects {
		sum := 0.0
		for _, v := range differences {
			if rng.Uint64()&1 == 1 {
				v = -v
			}
			sum += v
		}
		effects[i] = math.Abs(sum) / float64(len(differences))
	}
	slices.Sort(effects)
	return effects[replay.Rank(level, draws)]
}

// drift is by how much a metric changed over the session, by the regression of what remains of each request's value
// without its cell's and side's mean on time, in percent.
func (p *pairing) drift(m int, cells []string) replay.Num {
	var x, y []float64
	longest := 0.0
	for s, side := range p.sides {
		began := p.began(side)
		for _, cell := range cells {
			sum, n := 0.0, 0.0
			for _, o := range p.byCell[s][cell] {
				if !math.IsNaN(o.y[m]) {
					sum += o.y[m]
					n++
				}
			}
			for _, o := range p.byCell[s][cell] {
				if !math.IsNaN(o.y[m]) {
					at := o.at.Sub(began).Seconds()
					longest = max(longest, at)
					x, y = append(x, at), append(y, o.y[m]-sum/n)
				}
			}
		}
	}
	const needs = 6
	if len(x) < needs || longest <= 0 {
		return replay.Num{}
	}
	_, slope := stat.LinearRegression(x, y, nil, false)
	return percent(slope * longest)
}

// began is when a side's time begins to count: for rounds, with the session.
func (p *pairing) began(side *Side) (at time.Time) {
	of := []*Side{side}
	if p.paired {
		of = p.sides[:]
	}
	for _, s := range of {
		if len(s.observations) > 0 && (at.IsZero() || s.observations[0].at.Before(at)) {
			at = s.observations[0].at
		}
	}
	return at
}
