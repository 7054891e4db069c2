package load

import (
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"wattline/replay"
)

// Schedule is when the requests of a cell are sent in an open loop, counted from its beginning: a pure
// function of the plan. With a duration it has as many as fall into share, else Spec.Requests.
func Schedule(p *replay.Plan, trial, cell int, share time.Duration) []time.Duration {
	s := &p.Spec
	if s.Rate <= 0 {
		return nil
	}
	gap := gaps(s, rand.NewPCG(s.Seed, uint64(trial)<<32|uint64(cell)))
	var out []time.Duration
	at := 0.0
	for {
		if s.Duration > 0 && at >= share.Seconds() && len(out) > 0 || s.Duration == 0 && len(out) == s.Requests {
			return out
		}
		out = append(out, time.Duration(math.Round(at*1e9)))
		at += gap()
	}
}

// gaps draws the seconds between arrivals; their mean is 1/Rate. Gamma has the shape 1/Burstiness:
// the squared coefficient of variation is Burstiness, and 1 is Poisson.
func gaps(s *replay.Spec, src rand.Source) func() float64 {
	switch s.Arrival {
	case replay.Constant:
		return func() float64 { return 1 / s.Rate }
	case replay.Gamma:
		shape := 1 / s.Burstiness
		return distuv.Gamma{Alpha: shape, Beta: shape * s.Rate, Src: src}.Rand
	default:
		return distuv.Exponential{Rate: s.Rate, Src: src}.Rand
	}
}
