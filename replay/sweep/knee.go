package sweep

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"wattline/replay"
)

// Share of the requests that must keep the objectives at the knee.
const Share = 0.95

// Knee is the highest rate at which the share of the requests keeps the objectives.
type Knee struct {
	Rate replay.Num `json:"rate"` // requests a second: the highest that was seen to hold; null where none was
	// Low is the highest rate that surely holds, High the lowest that surely does not, by 95 % binomial tests; null where
	// no rate that was tried is sure.
	Low    replay.Num `json:"low"`
	High   replay.Num `json:"high"`
	Probes int        `json:"probes"`
	Why    string     `json:"why,omitempty"` // why the search ended before the resolution was reached
}

// Probe sends requests at a rate and returns how many kept the objectives. more is false when the time is over.
type Probe func(ctx context.Context, rate float64) (kept, of int, more bool, err error)

// Bounds of the search.
const (
	resolution = 1.03 // ratio of the neighbouring rates at the end
	steps      = 6    // of halving or doubling, before a bracket is found
	sure       = 0.025
)

// FindKnee brackets the knee from a guess of the server's capacity, and bisects.
func FindKnee(ctx context.Context, capacity float64, probe Probe) (Knee, error) {
	var k Knee
	low, high, rate := 0.0, math.Inf(1), capacity/2
	for outside := 0; high/low > resolution; {
		kept, of, more, err := probe(ctx, rate)
		if err != nil {
			return k, err
		}
		k.Probes++
		k.take(rate, kept, of)
		if of > 0 && float64(kept) >= Share*float64(of) {
			low = rate
			k.Rate = replay.Some(rate)
		} else {
			high = rate
		}
		switch {
		case !more:
			k.Why = "the budget ended the search"
		case low == 0 && outside == steps:
			k.Why = fmt.Sprintf("not even %.3g requests a second keep the objectives", rate)
		case math.IsInf(high, 1) && outside == steps:
			k.Why = fmt.Sprintf("%.3g requests a second still keep the objectives", rate)
		}
		if k.Why != "" {
			return k, nil
		}
		switch {
		case low == 0:
			rate /= 2
			outside++
		case math.IsInf(high, 1):
			rate *= 2.2 // a little above the capacity, where the guess is right
			outside++
		default:
			rate = math.Sqrt(low * high)
		}
	}
	return k, nil
}

// take narrows the interval by what a probe makes sure.
func (k *Knee) take(rate float64, kept, of int) {
	if of == 0 {
		return
	}
	b := distuv.Binomial{N: float64(of), P: Share}
	if b.CDF(float64(kept)) < sure && (!k.High.Valid || rate < k.High.V) {
		k.High = replay.Some(rate)
	}
	if 1-b.CDF(float64(kept)-1) < sure && (!k.Low.Valid || rate > k.Low.V) {
		k.Low = replay.Some(rate)
	}
}
