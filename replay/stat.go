package replay

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Stat describes many values of one quantity. What too few values cannot support is null.
type Stat struct {
	N      int      `json:"n"`
	Mean   Num      `json:"mean"`
	SD     Num      `json:"sd"` // of a sample; null for one value
	Min    Num      `json:"min"`
	Max    Num      `json:"max"`
	Median Num      `json:"median"` // of however few
	P50    Quantile `json:"p50"`
	P90    Quantile `json:"p90"`
	P95    Quantile `json:"p95"`
	P99    Quantile `json:"p99"`
}

// StatOf describes those of the values that are present.
func StatOf(values []Num) Stat {
	v := Present(values)
	if len(v) == 0 {
		return Stat{}
	}
	mean, sd := stat.MeanStdDev(v, nil) // NaN for one value, hence null
	return Stat{
		N: len(v), Mean: Some(mean), SD: Some(sd), Min: Some(slices.Min(v)), Max: Some(slices.Max(v)), Median: Median(v),
		P50: QuantileOf(v, 0.50), P90: QuantileOf(v, 0.90), P95: QuantileOf(v, 0.95), P99: QuantileOf(v, 0.99),
	}
}

// Present drops absent numbers.
func Present(values []Num) []float64 {
	var out []float64
	for _, v := range values {
		if v.Valid {
			out = append(out, v.V)
		}
	}
	return out
}

// Spread is a mean over trials with how far it can be trusted.
type Spread struct {
	Trials int    `json:"trials"`
	Mean   Num    `json:"mean"`
	Low    Num    `json:"low"`
	High   Num    `json:"high"`
	Kind   string `json:"kind"` // "t95": 95 % t interval of the mean; "min-max" where there are fewer than five trials
}

// The kinds of Spread.
const (
	T95    = "t95"
	MinMax = "min-max"
)

const trialsForT = 5

// SpreadOf is the mean of the trials' means: mean ± t(0.975, n-1)·s/√n from five trials on, and the
// smallest and the largest trial below.
func SpreadOf(trials []Num) Spread {
	v := Present(trials)
	n := len(v)
	if n == 0 {
		return Spread{}
	}
	mean, sd := stat.MeanStdDev(v, nil)
	if n < trialsForT {
		return Spread{n, Some(mean), Some(slices.Min(v)), Some(slices.Max(v)), MinMax}
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Quantile(1 - (1-confidence)/2)
	half := t * sd / math.Sqrt(float64(n))
	return Spread{n, Some(mean), Some(mean - half), Some(mean + half), T95}
}
