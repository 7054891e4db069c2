package compare

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// design is the values of one metric: y[side][unit][cell] are logarithms. Weights of the cells sum to 1.
type design struct {
	y       [2][][][]float64
	weights []float64
	paired  bool // unit i of A and unit i of B are one round
}

// estimate is an effect, log(B ÷ A), and how sure it is.
type estimate struct {
	effect, se float64
	t          []float64 // bootstrap's (effect* - effect) ÷ se*, sorted
	freedom    float64
}

// tally is sums and counts of one draw: by side, drawn unit and cell.
type tally struct {
	sum, n [2][][]float64

	mean, count, influence [2][]float64 // scratch of effect
}

func newTally(d *design) *tally {
	t := &tally{}
	for s := range d.y {
		t.sum[s], t.n[s] = make([][]float64, len(d.y[s])), make([][]float64, len(d.y[s]))
		for u := range d.y[s] {
			t.sum[s][u], t.n[s][u] = make([]float64, len(d.weights)), make([]float64, len(d.weights))
		}
		t.mean[s], t.count[s], t.influence[s] = make([]float64, len(d.weights)), make([]float64, len(d.weights)), make([]float64, len(d.y[s]))
	}
	return t
}

// effect is the weighted mean over cells of the difference of means, and its standard error by the units' influences. A
// cell that a draw left empty on a side is left out.
func (t *tally) effect(d *design) (effect, se, freedom float64) {
	mean, n, influence := &t.mean, &t.count, &t.influence
	for s := range t.sum {
		clear(mean[s])
		clear(n[s])
		clear(influence[s])
		for u := range t.sum[s] {
			for c := range d.weights {
				mean[s][c] += t.sum[s][u][c]
				n[s][c] += t.n[s][u][c]
			}
		}
	}
	weight := 0.0
	for c, w := range d.weights {
		if n[0][c] > 0 && n[1][c] > 0 {
			weight += w
			for s := range mean {
				mean[s][c] /= n[s][c]
			}
			effect += w * (mean[1][c] - mean[0][c])
		}
	}
	if weight == 0 {
		return math.NaN(), math.NaN(), 0
	}
	for s := range t.sum {
		for u := range t.sum[s] {
			for c, w := range d.weights {
				if n[0][c] > 0 && n[1][c] > 0 {
					influence[s][u] += w / weight * (t.sum[s][u][c] - t.n[s][u][c]*mean[s][c]) / n[s][c]
				}
			}
		}
	}
	if d.paired {
		for u := range influence[1] {
			influence[1][u] -= influence[0][u]
		}
		v := variance(influence[1])
		return effect / weight, math.Sqrt(v), float64(len(influence[1]) - 1)
	}
	a, b := variance(influence[0]), variance(influence[1])
	freedom = min(float64(len(influence[0])), float64(len(influence[1]))) - 1
	if a+b > 0 { // Welch and Satterthwaite
		freedom = (a + b) * (a + b) / (a*a/float64(len(influence[0])-1) + b*b/float64(len(influence[1])-1))
	}
	return effect / weight, math.Sqrt(a + b), freedom
}

// variance of a sum of n independent influences.
func variance(influence []float64) float64 {
	n, sum := float64(len(influence)), 0.0
	for _, v := range influence {
		sum += v * v
	}
	if n < 2 {
		return math.NaN()
	}
	return sum * n / (n - 1)
}

// minUnits is how many trials a side needs for an interval.
const minUnits = 2

func (d *design) units() int { return min(len(d.y[0]), len(d.y[1])) }

// estimate computes the effect and draws resamples.
func (d *design) estimate(resamples int, seed uint64) estimate {
	t := newTally(d)
	for s := range d.y {
		for u, cells := range d.y[s] {
			for c, values := range cells {
				for _, v := range values {
					t.sum[s][u][c] += v
				}
				t.n[s][u][c] = float64(len(values))
			}
		}
	}
	var e estimate
	e.effect, e.se, e.freedom = t.effect(d)
	if d.units() < minUnits || math.IsNaN(e.effect) || e.se == 0 {
		return e
	}
	rng := rand.New(rand.NewPCG(seed, 24))
	e.t = make([]float64, 0, resamples)
	for range resamples {
		d.draw(rng, t)
		effect, se, _ := t.effect(d)
		if se > 0 {
			e.t = append(e.t, (effect-e.effect)/se)
		}
	}
	slices.Sort(e.t)
	return e
}

// draw fills a tally with units drawn with replacement and, of each, requests drawn with replacement.
func (d *design) draw(rng *rand.Rand, t *tally) {
	for s := range d.y {
		for u := range d.y[s] {
			from := rng.IntN(len(d.y[s]))
			d.drawUnit(rng, t, s, u, from)
			if d.paired {
				d.drawUnit(rng, t, 1-s, u, from)
			}
		}
		if d.paired {
			return
		}
	}
}

func (d *design) drawUnit(rng *rand.Rand, t *tally, side, slot, from int) {
	for c, values := range d.y[side][from] {
		sum := 0.0
		for range values {
			sum += values[rng.IntN(len(values))]
		}
		t.sum[side][slot][c], t.n[side][slot][c] = sum, float64(len(values))
	}
}

// quantile is the bootstrap's t for a tail below p or above 1 - p, but never nearer to 0 than Student's: with few units, or
// few resamples, the bootstrap alone covers a little too little.
func (e *estimate) quantile(p float64) float64 {
	student := e.student().Quantile(p)
	n := len(e.t)
	if n < minResamples { // no resamples, or nearly every one had no spread
		return student
	}
	out := max(int(min(p, 1-p)*float64(n+1))-1, 0) // values left out on that side
	if p < 0.5 {
		return min(e.t[out], student)
	}
	return max(e.t[n-1-out], student)
}

func (e *estimate) student() distuv.StudentsT {
	return distuv.StudentsT{Sigma: 1, Nu: max(e.freedom, 1)}
}

const minResamples = 100

// known reports whether there is an interval.
func (e *estimate) known() bool { return !math.IsNaN(e.effect) && !math.IsNaN(e.se) }

// interval with a probability of level.
func (e *estimate) interval(level float64) (low, high float64) {
	if !e.known() {
		return math.NaN(), math.NaN()
	}
	if e.se == 0 {
		return e.effect, e.effect
	}
	tail := (1 - level) / 2
	return e.effect - e.quantile(1-tail)*e.se, e.effect - e.quantile(tail)*e.se
}

// above and below are the probabilities of an effect at least as far from an assumed one, if that were true: the
// p-values of the two one-sided tests.
func (e *estimate) above(assumed float64) float64 { return e.tail(assumed, true) }
func (e *estimate) below(assumed float64) float64 { return e.tail(assumed, false) }

func (e *estimate) tail(assumed float64, above bool) float64 {
	switch {
	case !e.known():
		return 1
	case e.se == 0 && e.effect == assumed:
		return 1
	case e.se == 0:
		if above == (e.effect > assumed) {
			return 0
		}
		return 1
	}
	t := (e.effect - assumed) / e.se
	student := e.student().CDF(t)
	if above {
		student = 1 - student
	}
	n := float64(len(e.t))
	if n < minResamples {
		return student
	}
	beyond := 0.0
	for _, v := range e.t {
		if above && v >= t || !above && v <= t {
			beyond++
		}
	}
	return max(student, (beyond+1)/(n+1))
}

// differs is the two-sided p-value of no effect.
func (e *estimate) differs() float64 { return min(1, 2*min(e.above(0), e.below(0))) }

// outside is the p-value of an effect at or beyond the margin, doubled, so that 0.05 is a 95 % interval within it.
func (e *estimate) outside(margin float64) float64 {
	return min(1, 2*max(e.above(-margin), e.below(margin)))
}

// holm corrects p-values for their number (Holm, Scandinavian Journal of Statistics 6, 1979, p. 65).
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	out, worst := make([]float64, len(p)), 0.0
	for rank, i := range order {
		worst = max(worst, min(1, p[i]*float64(len(p)-rank)))
		out[i] = worst
	}
	return out
}
