package replay

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/stat"
)

// capReasons are throttle reasons that were configured, with their names in table power. They are part of what is
// measured and do not make a run invalid.
//
//nolint:gochecknoglobals // a constant list
var capReasons = []string{"power cap", "application clocks", "sync boost", "display clocks"}

// checkThrottle fails if the driver lowered the clocks for another reason than a configured limit.
func (r *Run) checkThrottle([]*Exchange) (State, string) {
	in := r.during()
	seconds, reasons := throttled(in)
	if !seconds.Valid && len(reasons) == 0 {
		return skipped("no GPU's clocks were watched")
	}
	bad := slices.DeleteFunc(slices.Clone(reasons), func(s string) bool { return slices.Contains(capReasons, s) })
	switch {
	case len(bad) > 0:
		return failed("the GPU throttled for %s s: %s", short(seconds.V), strings.Join(bad, ", "))
	case seconds.V > 0 && len(reasons) == 0:
		return failed("the GPU throttled for %s s for an unknown reason", short(seconds.V))
	case len(reasons) > 0:
		return passed("only as configured (%s)", strings.Join(reasons, ", "))
	}
	return passed("never")
}

// checkEnergy fails if the requests were charged more than all devices drew in the same time, beyond the error of both.
func (r *Run) checkEnergy(_ []*Exchange) (State, string) {
	const counterShare = 0.01 // the counter's own steps at both ends
	drew, _ := r.gross()
	charged, sigma := 0.0, 0.0
	for _, e := range r.Exchanges {
		if e.InLine == nil || !e.InLine.GPUUj.Valid {
			continue
		}
		charged += float64(e.InLine.GPUUj.V) / 1e6
		sigma += float64(e.InLine.GPUSigmaUj.V) / 1e6
	}
	joules := drew.V * 3600
	switch {
	case !drew.Valid || charged == 0:
		return skipped("the energy of the whole run was not measured")
	case charged > joules*(1+counterShare)+2*sigma:
		return failed("the requests were charged %s ± %s J, and the devices drew %s J", short(charged), short(sigma), short(joules))
	}
	return passed("the requests were charged %s J of the %s J that the devices drew", short(charged), short(joules))
}

// checkStall fails if a request was in flight while the card was idle: kernels were compiled, or the server hung. It
// needs a power curve with a finer step than a stall lasts.
func (r *Run) checkStall([]*Exchange) (State, string) {
	idle := r.idleBefore()
	if len(r.Power.Curves) == 0 || !idle.Valid || len(r.Power.Curves) != len(r.device().Devices) {
		return skipped("no power curve finer than %s s was measured", short(stallSeconds))
	}
	if !r.curveCovers() {
		return skipped("the power curve covers only part of the run (wattline keeps the last half hour)")
	}
	found, worst := 0, 0.0
	for _, e := range r.Exchanges {
		if s := r.stalled(e, idle.V*idleBand); s >= stallSeconds {
			found++
			worst = max(worst, s)
		}
	}
	if found > 0 {
		return failed("%d requests waited at idle power (below %s W), up to %s s: the server compiled kernels, saved or loaded a prompt or a model, or hung; run it again", found, short(idle.V*idleBand), short(worst))
	}
	return passed("no request waited %s s or more at idle power", short(stallSeconds))
}

// curveCovers reports whether the curve spans all cells, but for two seconds at either end.
func (r *Run) curveCovers() bool {
	const edge = 2 * time.Second
	c := r.Power.Curves[0]
	end := c.From.Add(time.Duration(len(c.MilliWatts)) * time.Duration(c.StepUs) * time.Microsecond)
	return len(r.Spans) > 0 && !c.From.After(r.Spans[0].From.Add(edge)) && !end.Before(r.Spans[len(r.Spans)-1].To.Add(-edge))
}

// stalled is the longest stretch, in seconds, within the request's time in which all devices together drew less than limit
// watts. Where it waits for another request's slot they draw more.
func (r *Run) stalled(e *Exchange, limit float64) float64 {
	from, to := e.StartedAt, e.StartedAt.Add(time.Duration(e.LastUs.V)*time.Microsecond)
	c := r.Power.Curves[0]
	step := time.Duration(c.StepUs) * time.Microsecond
	longest, current := 0.0, 0.0
	for i := range c.MilliWatts {
		at := c.From.Add(time.Duration(i) * step)
		if at.Before(from) || at.Add(step).After(to) {
			continue
		}
		watts := 0.0
		for _, d := range r.Power.Curves {
			if i < len(d.MilliWatts) {
				watts += float64(d.MilliWatts[i]) / 1e3
			}
		}
		if watts >= limit {
			current = 0
			continue
		}
		current += step.Seconds()
		longest = max(longest, current)
	}
	return longest
}

// GaugePoint is how many requests the proxy had in flight at one moment, other clients' included.
type GaugePoint struct {
	At       time.Time `json:"at"`
	InFlight int       `json:"in_flight"`
}

// checkLittle: the mean number in flight that the proxy's gauge shows must be arrival rate times
// residence as the client's rows have them, over the same inner window; then nothing was lost or counted
// twice. The window leaves out the first and the last tenth of each cell. A client's time begins before the
// request is at the proxy and ends behind it, by milliseconds on a busy machine; where a row says how long the
// request was there, the gauge may be as low as that. A difference within three standard errors of the sampled
// gauge proves nothing and passes.
func (r *Run) checkLittle([]*Exchange) (State, string) {
	var seen []float64
	window, busy, inside := 0.0, 0.0, 0.0
	requests := 0
	for _, s := range r.Spans {
		edge := s.To.Sub(s.From) / 10
		from, to := s.From.Add(edge), s.To.Add(-edge)
		for _, g := range r.Gauge {
			if !g.At.Before(from) && g.At.Before(to) {
				seen = append(seen, float64(g.InFlight))
			}
		}
		window += to.Sub(from).Seconds()
		for _, e := range r.Exchanges {
			if o := overlap(e.StartedAt, e.StartedAt.Add(time.Duration(e.EndUs.V)*time.Microsecond), from, to); o > 0 {
				busy += o.Seconds()
				inside += o.Seconds() * e.insideShare()
				requests++
			}
		}
	}
	if len(seen) < littleSamples || requests < littleNeeds || window <= 0 {
		return skipped("%d requests and %d readings of the proxy's gauge; it takes %d and %d", requests, len(seen), littleNeeds, littleSamples)
	}
	mean, sd := stat.MeanStdDev(seen, nil)
	rows, least := busy/window, inside/window
	nearest := min(max(mean, least), rows)
	off := math.Abs(mean-nearest) / nearest
	said := fmt.Sprintf("in flight: %s by the proxy's gauge (%d readings), %s by the client's rows (%d requests), %s of it at the proxy", short(mean), len(seen), short(rows), requests, short(least))
	if off > littleTolerance && math.Abs(mean-nearest) > 3*sd/math.Sqrt(float64(len(seen))) {
		return failed("%s: off by %s %%", said, short(100*off))
	}
	return passed("%s", said)
}

// insideShare is the part of the client's time in which the request was at the proxy; 1 where no row says.
func (e *Exchange) insideShare() float64 {
	if e.InLine == nil || !e.InLine.DurationUs.Valid || e.EndUs.V <= 0 {
		return 1
	}
	return min(1, float64(e.InLine.DurationUs.V)/float64(e.EndUs.V))
}
