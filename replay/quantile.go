package replay

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// confidence of every interval that is reported.
const confidence = 0.95

// tail is the probability left out on either side of an interval.
const tail = (1 - confidence) / 2

// Rank is the index of the p-quantile in n sorted values by the nearest-rank rule: the smallest value
// that is not exceeded by at least the share p of all values.
func Rank(p float64, n int) int {
	return min(max(int(math.Ceil(p*float64(n)-1e-9))-1, 0), n-1)
}

// Quantile is a quantile with a 95 % interval that assumes no distribution.
type Quantile struct {
	Value Num `json:"value"`
	Low   Num `json:"low"`
	High  Num `json:"high"` // Low and High are null where there are too few values
}

// QuantileOf gives the p-quantile of independent values. The ends of its interval are order statistics:
// the number of values below the true quantile is binomial (n, p), so the l-th and the u-th value enclose
// it with a known probability. With fewer than [QuantileMinN] values even the smallest and the largest do
// not enclose it with 95 %, and the quantile itself is null: p50 needs 6 values, p90 36, p95 72, p99 368.
func QuantileOf(values []float64, p float64) Quantile {
	n := len(values)
	if n < QuantileMinN(p) {
		return Quantile{}
	}
	sorted := slices.Sorted(slices.Values(values))
	b := distuv.Binomial{N: float64(n), P: p}
	l, u := 1, n                             // counted from 1; QuantileMinN guarantees that these enclose it
	for l < n && b.CDF(float64(l)) <= tail { // the (l+1)-th is above the quantile
		l++
	}
	for u > 1 && 1-b.CDF(float64(u-2)) <= tail { // the (u-1)-th is below it
		u--
	}
	return Quantile{Some(sorted[Rank(p, n)]), Some(sorted[l-1]), Some(sorted[u-1])}
}

// ClusteredQuantileOf gives the p-quantile of values that come in clusters, like the gaps of one reply:
// values of one cluster may depend on each other, clusters do not. The interval is Woodruff's (JASA 47,
// 1952, p. 635): the share of values at or below the quantile has the cluster-robust standard error s of a
// ratio, and the quantiles at p ± t(0.975, clusters-1)·s are the ends. They are null where p ± t·s leaves
// (0, 1), that is with few clusters or far in the tail.
func ClusteredQuantileOf(clusters [][]float64, p float64) Quantile {
	sorted := slices.Concat(clusters...)
	n, k := len(sorted), 0
	if n < QuantileMinN(p) {
		return Quantile{}
	}
	slices.Sort(sorted)
	q := Quantile{Value: Some(sorted[Rank(p, n)])}
	squares := 0.0
	for _, c := range clusters {
		if len(c) == 0 {
			continue
		}
		k++
		below := 0
		for _, v := range c {
			if v <= q.Value.V {
				below++
			}
		}
		d := float64(below) - p*float64(len(c))
		squares += d * d
	}
	if k < 2 {
		return q
	}
	s := math.Sqrt(squares*float64(k)/float64(k-1)) / float64(n)
	half := distuv.StudentsT{Sigma: 1, Nu: float64(k - 1)}.Quantile(1-tail) * s
	if low, high := p-half, p+half; low > 0 && high < 1 {
		q.Low, q.High = Some(sorted[Rank(low, n)]), Some(sorted[min(Rank(high, n)+1, n-1)])
	}
	return q
}

// QuantileMinN is the smallest number of values with extremes that enclose the p-quantile with at most 2.5 %
// left on either side.
func QuantileMinN(p float64) int {
	return int(math.Ceil(math.Log(tail) / math.Log(max(p, 1-p))))
}

// NearestRank is the p-quantile by the nearest-rank rule, of however few values; null of none.
func NearestRank(values []float64, p float64) Num {
	if len(values) == 0 {
		return Num{}
	}
	return Some(slices.Sorted(slices.Values(values))[Rank(p, len(values))])
}

// Median of however few values; null of none.
func Median(values []float64) Num {
	n := len(values)
	if n == 0 {
		return Num{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Some((sorted[(n-1)/2] + sorted[n/2]) / 2)
}
