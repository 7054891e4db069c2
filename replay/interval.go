package replay

import (
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Interval is a 95 % interval; null where too few requests allow one.
type Interval struct {
	Low  Num `json:"low"`
	High Num `json:"high"`
}

// Apart reports whether both intervals are known and do not touch.
func (i Interval) Apart(o Interval) bool {
	known := i.Low.Valid && i.High.Valid && o.Low.Valid && o.High.Valid
	return known && (i.Low.V > o.High.V || o.Low.V > i.High.V)
}

// Intervals are those of the figures by which runs are compared. They hold for the workload that was run: requests of one
// cell differ by chance, cells differ by plan.
type Intervals struct {
	TokensPerSecond Interval `json:"tokens_per_second"`
	TokensPerJoule  Interval `json:"tokens_per_joule"`
	FirstTokenMs    Interval `json:"time_to_first_token_ms"`
}

func (r *Run) intervals(ok []*Exchange) Intervals {
	one := func(*Exchange) Num { return Some(1) }
	return Intervals{
		TokensPerSecond: intervalOf(ok, (*Exchange).TokensPerSecond, one),
		TokensPerJoule:  intervalOf(ok, outputTokens, func(e *Exchange) Num { return e.inLine(SlotJoules) }),
		FirstTokenMs:    intervalOf(ok, ttftMs, one),
	}
}

// intervalOf gives the interval of Σa ÷ Σb over requests, stratified by cell: with R the ratio and d = a - R·b, the
// variance of Σd is the sum of n·s²(d) of the cells (Cochran, Sampling Techniques, 3rd ed., 6.11). A cell of one request
// has no spread that could be known, and then there is no interval.
func intervalOf(list []*Exchange, a, b func(*Exchange) Num) Interval {
	type pair struct{ a, b float64 }
	cells := map[int][]pair{}
	var sumA, sumB float64
	for _, e := range list {
		if x, y := a(e), b(e); x.Valid && y.Valid {
			cells[e.Key.Cell] = append(cells[e.Key.Cell], pair{x.V, y.V})
			sumA, sumB = sumA+x.V, sumB+y.V
		}
	}
	if sumB <= 0 {
		return Interval{}
	}
	ratio, variance, freedom := sumA/sumB, 0.0, 0
	for _, pairs := range cells {
		var d []float64
		for _, p := range pairs {
			d = append(d, p.a-ratio*p.b)
		}
		if len(d) < 2 {
			return Interval{}
		}
		variance += float64(len(d)) * stat.Variance(d, nil)
		freedom += len(d) - 1
	}
	half := distuv.StudentsT{Sigma: 1, Nu: float64(freedom)}.Quantile(1-tail) * math.Sqrt(variance) / sumB
	return Interval{Some(ratio - half), Some(ratio + half)}
}
