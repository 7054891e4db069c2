package replay

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// confidence of every interval that is printed.
const confidence = 0.95

// Rank is the index, in n sorted values, of the p-quantile by the nearest-rank rule: the smallest value
// that at least the share p of all do not exceed.
func Rank(p float64, n int) int {
	return min(max(int(math.Ceil(p*float64(n)-1e-9))-1, 0), n-1)
}

// Quantile is a quantile with its distribution-free interval.
type Quantile struct {
	Value Num `json:"value"`
	Low   Num `json:"low"`  // 95 % interval from order statistics
	High  Num `json:"high"` // null where too few values allow none
}

// QuantileOf gives the p-quantile of values with its 95 % interval. The interval's ends are themselves
// among the values: the number of values below the true quantile is binomial (n, p), so the l-th and the
// u-th of them enclose it with a known probability, whatever the distribution. Where n is so small that
// even the smallest and the largest do not (2.5 % on either side), there is none, and the quantile
// itself is null: p50 needs 6 values, p90 36, p95 72, p99 368.
func QuantileOf(values []float64, p float64) Quantile {
	n := len(values)
	if n < QuantileNeeds(p) {
		return Quantile{}
	}
	sorted := slices.Sorted(slices.Values(values))
	b := distuv.Binomial{N: float64(n), P: p}
	tail := (1 - confidence) / 2
	l, u := 1, n                             // counted from 1; these hold by QuantileNeeds
	for l < n && b.CDF(float64(l)) <= tail { // the (l+1)-th lies above the quantile
		l++
	}
	for u > 1 && 1-b.CDF(float64(u-2)) <= tail { // the (u-1)-th lies below it
		u--
	}
	return Quantile{Some(sorted[Rank(p, n)]), Some(sorted[l-1]), Some(sorted[u-1])}
}

// QuantileNeeds is the smallest number of values whose extremes enclose the p-quantile with 2.5 % left
// on either side at most.
func QuantileNeeds(p float64) int {
	tail := (1 - confidence) / 2
	return int(math.Ceil(math.Log(tail) / math.Log(max(p, 1-p))))
}

// Nearest is the p-quantile by the nearest-rank rule, of however few values; null for none.
func Nearest(values []float64, p float64) Num {
	if len(values) == 0 {
		return Num{}
	}
	return Some(slices.Sorted(slices.Values(values))[Rank(p, len(values))])
}

// Median of values, which may be few; null for none.
func Median(values []float64) Num {
	n := len(values)
	if n == 0 {
		return Num{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Some((sorted[(n-1)/2] + sorted[n/2]) / 2)
}
