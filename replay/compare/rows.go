package compare

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/mat"

	"wattline/meter"
	"wattline/replay"
)

// Stored rows are of natural traffic, whose mix differs between A and B. They are compared within strata, with weights of
// the mix that both have, and within a stratum at the same sizes: a regression takes out what remains of them.

// dimension is one side of a stratum.
type dimension struct {
	name  string
	class func(r *meter.Record) string
}

//nolint:gochecknoglobals // a constant table
var dimensions = []dimension{
	{"model", func(r *meter.Record) string { return r.Model }},
	{"prompt size", func(r *meter.Record) string { return "prompt " + powers(r.PromptTokens, 1) }},
	{"cached share", func(r *meter.Record) string {
		if !r.CachedTokens.Valid || !r.PromptTokens.Valid {
			return "cached unknown"
		}
		share := float64(r.CachedTokens.V) / float64(max(r.PromptTokens.V, 1))
		return "cached " + class(share, []float64{0.1, 0.5, 0.9}, []string{"< 10 %", "10-50 %", "50-90 %", ">= 90 %"})
	}},
	{"output size", func(r *meter.Record) string { return "output " + powers(r.OutputTokens, 2) }},
	{"company in the server", func(r *meter.Record) string {
		if !r.MeanConcurrency.Valid {
			return "company unknown"
		}
		return class(float64(r.MeanConcurrency.V)/1000, []float64{1.1, 2, 4}, []string{"alone", "up to 2 in flight", "up to 4 in flight", "more in flight"})
	}},
}

// powers is the range of a count between powers of two, several of them wide.
func powers(n meter.Int, wide int) string {
	if !n.Valid {
		return "unknown"
	}
	at := int(math.Log2(float64(max(n.V, 1)))) / wide * wide
	return fmt.Sprintf("%s-%s", replay.SizeName(1<<at), replay.SizeName(1<<(at+wide)))
}

func class(v float64, borders []float64, names []string) string {
	for i, b := range borders {
		if v < b {
			return names[i]
		}
	}
	return names[len(borders)]
}

// covariates are what a value may depend on within a stratum.
func covariates(r *meter.Record) []float64 {
	log := func(v int64) float64 { return math.Log(float64(max(v, 1))) }
	return []float64{
		log(r.PromptTokens.V), log(r.PromptTokens.V - r.CachedTokens.V + 1), log(r.OutputTokens.V), log(max(r.MeanConcurrency.V, 1000)),
	}
}

// Bounds of stretches: the rows of a side are cut by time into units of equal size, as neighbours are not independent.
const (
	stretchRows   = 8
	mostStretches = 20
	leastRows     = 2 * stretchRows
	leastOverlap  = 0.5
)

// FromRows takes stored rows: those that were answered, in their strata. Rows while another process computed on the
// device have no joules.
func FromRows(label string, rows []*meter.Record) *Side {
	s := &Side{Label: label, strata: true}
	for _, r := range rows {
		if s.From.IsZero() || r.StartedAt.Before(s.From) {
			s.From = r.StartedAt
		}
		if end := r.StartedAt.Add(time.Duration(r.DurationUs.V) * time.Microsecond); end.After(s.To) {
			s.To = end
		}
		if r.Outcome != meter.OK {
			s.Errors++
			continue
		}
		s.Requests++
		var parts []string
		for _, d := range dimensions {
			parts = append(parts, d.class(r))
		}
		o := observation{cell: strings.Join(parts, ", "), parts: parts, at: r.StartedAt, x: covariates(r)}
		for _, m := range metrics {
			v := m.record(r)
			if (m.key == "j_per_token" || m.key == "tokens_per_watt") && r.EnergyQuality == meter.EnergyContended {
				v = replay.Num{}
			}
			o.y = append(o.y, logarithm(v))
		}
		s.Simulated = s.Simulated || strings.HasPrefix(r.EnergySource, "sim/")
		if !strings.Contains(s.Model, r.Model) {
			s.Model = strings.Trim(s.Model+", "+r.Model, ", ")
		}
		s.observations = append(s.observations, o)
	}
	s.finish()
	n := len(s.observations)
	s.Trials = min(max(n/stretchRows, 1), mostStretches)
	for i := range s.observations {
		s.observations[i].trial = i * s.Trials / n
	}
	return s
}

// strata weighs the strata by the mix that both sides have, and brings the values of each to the same sizes.
func (p *pairing) strata(r *Result) {
	r.Design, r.Unit = "stored rows, within strata", "stretches of time"
	var counts [2]map[string]float64
	for s, side := range p.sides {
		counts[s] = map[string]float64{}
		for _, o := range side.observations {
			counts[s][o.cell] += 1 / float64(len(side.observations))
		}
		p.trials[s] = trialsOf(side)
	}
	r.Units = min(len(p.trials[0]), len(p.trials[1]))
	total := 0.0
	for _, c := range slices.Sorted(maps.Keys(counts[0])) {
		if w := min(counts[0][c], counts[1][c]); w > 0 {
			p.cells, p.share = append(p.cells, c), append(p.share, w)
			total += w
		}
	}
	for i := range p.share {
		p.share[i] /= total
	}
	r.Overlap = replay.Some(total)
	for s, side := range p.sides {
		if n := len(side.observations); n < leastRows {
			r.Refusal = fmt.Sprintf("%s has %d answered requests: at least %d are needed", name(s), n, leastRows)
		}
	}
	if r.Refusal == "" && total < leastOverlap {
		r.Refusal = fmt.Sprintf("the mixes of A and B overlap by %.0f %%, and below %.0f %% no verdict would be of like requests; %s",
			100*total, 100*leastOverlap, p.leastAlike())
	}
	if r.Refusal == "" {
		for s, side := range p.sides {
			copied := *side
			copied.observations = slices.Clone(side.observations)
			p.sides[s] = &copied
		}
		p.index()
		for m := range metrics {
			p.adjust(m)
		}
	}
}

// leastAlike names the dimension in which the mixes overlap least.
func (p *pairing) leastAlike() string {
	least, text := 2.0, ""
	for i, d := range dimensions {
		var share [2]map[string]float64
		for s, side := range p.sides {
			share[s] = map[string]float64{}
			for _, o := range side.observations {
				share[s][o.parts[i]] += 1 / float64(len(side.observations))
			}
		}
		overlap := 0.0
		for k, v := range share[0] {
			overlap += min(v, share[1][k])
		}
		if overlap < least {
			least, text = overlap, fmt.Sprintf("they differ most in %s (%.0f %% alike)", d.name, 100*overlap)
		}
	}
	return text
}

// adjust subtracts from each value what its sizes add to it beyond the stratum's mean. The slopes are those within side
// and stratum; a stratum's own are drawn towards those of all strata where it has few values.
func (p *pairing) adjust(m int) {
	k := len(covariates(&meter.Record{}))
	all := newSlopes(k)
	groups := map[string]*slopes{}
	for _, c := range p.cells {
		g := newSlopes(k)
		groups[c] = g
		for s := range p.sides {
			g.add(p.of(s, c, m), m)
		}
		all.plus(g)
	}
	whole := all.solve(nil)
	for c, g := range groups {
		slope := g.solve(whole)
		mean, n := make([]float64, k), 0.0
		for s := range p.sides {
			for _, o := range p.of(s, c, m) {
				for i, v := range o.x {
					mean[i] += v
				}
				n++
			}
		}
		for s := range p.sides {
			for _, o := range p.of(s, c, m) {
				y := slices.Clone(o.y)
				for i, v := range o.x {
					y[m] -= slope[i] * (v - mean[i]/n)
				}
				o.y = y
			}
		}
	}
}

// of are a stratum's observations of a side that have a metric.
func (p *pairing) of(side int, cell string, m int) (out []*observation) {
	for _, o := range p.byCell[side][cell] {
		if !math.IsNaN(o.y[m]) {
			out = append(out, o)
		}
	}
	return out
}

// slopes collects the sums of squares and products of a regression.
type slopes struct {
	xx *mat.SymDense
	xy []float64
	n  float64
}

func newSlopes(k int) *slopes { return &slopes{xx: mat.NewSymDense(k, nil), xy: make([]float64, k)} }

// add takes a group, about its own means.
func (g *slopes) add(list []*observation, m int) {
	k, n := len(g.xy), float64(len(list))
	mean, y := make([]float64, k), 0.0
	for _, o := range list {
		for i, v := range o.x {
			mean[i] += v / n
		}
		y += o.y[m] / n
	}
	for _, o := range list {
		for i := range k {
			g.xy[i] += (o.x[i] - mean[i]) * (o.y[m] - y)
			for j := i; j < k; j++ {
				g.xx.SetSym(i, j, g.xx.At(i, j)+(o.x[i]-mean[i])*(o.x[j]-mean[j]))
			}
		}
	}
	g.n += n
}

func (g *slopes) plus(o *slopes) {
	g.xx.AddSym(g.xx, o.xx)
	for i := range g.xy {
		g.xy[i] += o.xy[i]
	}
	g.n += o.n
}

// solve gives the slopes by ridge regression towards others (nil: zero) with the weight of a few values.
func (g *slopes) solve(towards []float64) []float64 {
	const few, least = 4, 1e-6
	k := len(g.xy)
	if towards == nil {
		towards = make([]float64, k)
	}
	a, b := mat.NewSymDense(k, nil), mat.NewVecDense(k, nil)
	a.CopySym(g.xx)
	for i := range k {
		ridge := few*g.xx.At(i, i)/max(g.n, 1) + least
		a.SetSym(i, i, a.At(i, i)+ridge)
		b.SetVec(i, g.xy[i]+ridge*towards[i])
	}
	var chol mat.Cholesky
	out := mat.NewVecDense(k, nil)
	if !chol.Factorize(a) || chol.SolveVecTo(out, b) != nil {
		return towards
	}
	return out.RawVector().Data
}
