package replay

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Stat describes many values of one quantity. A figure that too few values cannot support is null.
type Stat struct {
	N      int      `json:"n"`
	Mean   Num      `json:"mean"`
	SD     Num      `json:"sd"` // of a sample; null for one value
	Min    Num      `json:"min"`
	Max    Num      `json:"max"`
	Median Num      `json:"median"` // of however few values
	P50    Quantile `json:"p50"`
	P90    Quantile `json:"p90"`
	P95    Quantile `json:"p95"`
	P99    Quantile `json:"p99"`
}

// StatOf describes the values that are not null, which are independent.
func StatOf(values []Num) Stat {
	v := Present(values)
	return statOf(v, func(p float64) Quantile { return QuantileOf(v, p) })
}

// ClusteredStatOf describes values that depend on each other within a cluster.
func ClusteredStatOf(clusters [][]float64) Stat {
	return statOf(slices.Concat(clusters...), func(p float64) Quantile { return ClusteredQuantileOf(clusters, p) })
}

func statOf(v []float64, quantile func(float64) Quantile) Stat {
	if len(v) == 0 {
		return Stat{}
	}
	mean, sd := stat.MeanStdDev(v, nil) // sd is NaN for one value, and Some makes it null
	return Stat{
		N: len(v), Mean: Some(mean), SD: Some(sd), Min: Some(slices.Min(v)), Max: Some(slices.Max(v)), Median: Median(v),
		P50: quantile(0.50), P90: quantile(0.90), P95: quantile(0.95), P99: quantile(0.99),
	}
}

// Present drops nulls.
func Present(values []Num) []float64 {
	var out []float64
	for _, v := range values {
		if v.Valid {
			out = append(out, v.V)
		}
	}
	return out
}

// Spread is a mean over trials with an interval.
type Spread struct {
	Trials int    `json:"trials"`
	Mean   Num    `json:"mean"`
	Low    Num    `json:"low"`
	High   Num    `json:"high"`
	Kind   string `json:"kind"` // T95 or MinMax
}

// The kinds of Spread.
const (
	T95    = "t95"     // 95 % t interval of the mean
	MinMax = "min-max" // smallest and largest trial: there are fewer than five
)

const minTrialsForT = 5

// SpreadOf is the mean of the trials' means: mean ± t(0.975, n-1)·s/√n with five trials or more, else
// with the smallest and the largest trial.
func SpreadOf(trials []Num) Spread {
	v := Present(trials)
	n := len(v)
	if n == 0 {
		return Spread{}
	}
	mean, sd := stat.MeanStdDev(v, nil)
	if n < minTrialsForT {
		return Spread{n, Some(mean), Some(slices.Min(v)), Some(slices.Max(v)), MinMax}
	}
	half := distuv.StudentsT{Sigma: 1, Nu: float64(n - 1)}.Quantile(1-tail) * sd / math.Sqrt(float64(n))
	return Spread{n, Some(mean), Some(mean - half), Some(mean + half), T95}
}
