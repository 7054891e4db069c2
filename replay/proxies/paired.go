package proxies

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is an estimate, with the bounds within which it lies with 95 % confidence.
type Interval struct {
	Median Num `json:"median"`
	Lo     Num `json:"lo"`
	Hi     Num `json:"hi"`
	Pairs  int `json:"pairs"`
}

// resamples is how often the bootstrap draws; its bounds then vary by a few percent of their distance.
const resamples = 4000

// paired estimates the median of differences that were measured in pairs, and by the percentile bootstrap how far
// it may be off. A median, because a server's speed may have levels (an H100's single stream has two, 30 % apart):
// pairs that fell on two levels then lie on both sides and cancel, and the estimate is as sharp as the pairs on
// one level are.
func paired(values []float64) Interval {
	v := slices.DeleteFunc(slices.Clone(values), func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
	out := Interval{Median: Num(median(v)), Lo: Num(math.NaN()), Hi: Num(math.NaN()), Pairs: len(v)}
	if len(v) < 3 {
		return out
	}
	r := rand.New(rand.NewPCG(uint64(len(v)), 1)) // the same report from the same data
	draw, medians := make([]float64, len(v)), make([]float64, resamples)
	for i := range medians {
		for j := range draw {
			draw[j] = v[r.IntN(len(v))]
		}
		medians[i] = median(draw)
	}
	slices.Sort(medians)
	out.Lo, out.Hi = Num(medians[resamples/40]), Num(medians[resamples-1-resamples/40])
	return out
}

// String is "-0.12 (-0.40 to +0.15)".
func (v Interval) String() string {
	if math.IsNaN(float64(v.Lo)) {
		return figure(v.Median, 2)
	}
	return fmt.Sprintf("%+.2f (%+.2f to %+.2f)", float64(v.Median), float64(v.Lo), float64(v.Hi))
}

// plain is "1.52 (1.40 to 1.61)", for a value that is not a difference; "-" if unknown.
func (v Interval) plain() string {
	switch {
	case v.Pairs == 0:
		return "-"
	case math.IsNaN(float64(v.Lo)):
		return figure(v.Median, 2)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", float64(v.Median), float64(v.Lo), float64(v.Hi))
}

// apart is how much slower proxied traffic may be, in percent.
const apart = 0.5

// Verdict compares an interval of percents with apart.
func (v Interval) Verdict() string {
	lo, hi := float64(v.Lo), float64(v.Hi)
	switch {
	case math.IsNaN(lo):
		return "too few pairs to tell"
	case lo > -apart && hi < apart:
		return "less than 0.5 % apart"
	case hi <= -apart:
		return "slower by more than 0.5 %"
	case lo >= apart:
		return "faster by more than 0.5 %"
	case lo > -apart:
		return "slower by less than 0.5 %, if at all"
	}
	wide := (hi - lo) / 2 / (0.8 * apart)
	return fmt.Sprintf("0.5 %% cannot be told: about %.0f pairs would", math.Ceil(float64(v.Pairs)*wide*wide))
}
