package gpu

import "math"

// How lags are searched for: first over the whole range, then finely around the best.
const (
	lagMinNs    = -50e6
	lagMaxNs    = 1500e6
	lagCoarseNs = 10e6
	lagFineNs   = 1e6
	lagMinCorr  = 0.6 // below this the load does not explain the power, and nothing is learnt
	lagMinSteps = 6   // steps of the load that a window must hold
)

// lagOf returns by how much the power of c trails the load over [from, to], by cross-correlation: the
// lag at which the integral of (load at t) x (power at t + lag) is greatest, relative to what the load's
// and the power's own variance allow. corr is that relative value, 1 for power that is a linear function
// of the load.
//
// Both are step functions, so each lag costs one pass over the load's steps and is exact.
func lagOf(l *load, c *curve, from, to int64) (lag int64, corr float64) {
	if l.steps(from, to) < lagMinSteps || !c.covers(from+lagMinNs) || !c.covers(to+lagMaxNs) {
		return 0, 0
	}
	best := func(lo, hi, step int64) {
		for d := lo; d <= hi; d += step {
			if r := correlation(l, c, from, to, d); r > corr {
				lag, corr = d, r
			}
		}
	}
	best(lagMinNs, lagMaxNs, lagCoarseNs)
	if corr > 0 {
		best(lag-lagCoarseNs, lag+lagCoarseNs, lagFineNs)
	}
	return lag, corr
}

// correlation returns the correlation coefficient of the load over [from, to] and the power d later.
func correlation(l *load, c *curve, from, to, d int64) float64 {
	var sumL, sumLL, sumLP float64
	each := func(a, b int64, level float64) {
		if a, b = max(a, from), min(b, to); a >= b {
			return
		}
		dt := float64(b - a)
		sumL += level * dt
		sumLL += level * level * dt
		sumLP += level * (c.energy(b+d) - c.energy(a+d))
	}
	for i, t := range l.at {
		if i == 0 {
			each(from, t, 0)
		}
		end := to
		if i+1 < len(l.at) {
			end = l.at[i+1]
		}
		each(t, end, l.level[i])
	}
	span := float64(to - from)
	e := c.energy(to+d) - c.energy(from+d)
	meanL, meanP := sumL/span, e/span
	varL := sumLL/span - meanL*meanL
	varP := c.squared(from+d, to+d)/span - meanP*meanP
	if varL <= 0 || varP <= 0 {
		return 0
	}
	return (sumLP/span - meanL*meanP) / math.Sqrt(varL*varP)
}

// squared returns the integral of the squared power (in the unit of energy per ns, squared, times ns).
func (c *curve) squared(from, to int64) (sum float64) {
	for i := max(c.index(from), 1); i < len(c.at) && c.at[i-1] < to; i++ {
		a, b := max(c.at[i-1], from), min(c.at[i], to)
		p := (c.cum[i] - c.cum[i-1]) / float64(c.at[i]-c.at[i-1])
		sum += p * p * float64(b-a)
	}
	return sum
}

// counterLag returns by how much the counter trails the curve: the shift d at which the counter's
// values are best explained as a line in the curve's integral, with that line's slope (the counter's
// joules per joule of the curve) and the rms of what is left, in microjoules.
func counterLag(knots []knot, c *curve) (d int64, slope, rms float64, ok bool) {
	rms = math.Inf(1)
	try := func(lo, hi, step int64) {
		for x := lo; x <= hi; x += step {
			if s, r, fits := counterLine(knots, c, x); fits && r < rms {
				d, slope, rms, ok = x, s, r, true
			}
		}
	}
	try(-1200e6, 400e6, 20e6)
	if ok {
		try(d-20e6, d+20e6, 2e6)
	}
	return d, slope, rms, ok
}

// counterLine fits the counter's values to the curve's integral d earlier than each step.
func counterLine(knots []knot, c *curve, d int64) (slope, rms float64, ok bool) {
	var n, sx, sy, sxx, sxy, syy float64
	var x0, y0 float64
	for _, t := range knots {
		at := t.mid() - d
		if !c.covers(at) {
			continue
		}
		x, y := c.energy(at), float64(t.uj)
		if n == 0 {
			x0, y0 = x, y
		}
		x, y = x-x0, y-y0
		n, sx, sy, sxx, sxy, syy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y, syy+y*y
	}
	vx := sxx - sx*sx/n
	if n < 8 || vx <= 0 {
		return 0, 0, false
	}
	slope = (sxy - sx*sy/n) / vx
	return slope, math.Sqrt(max(0, syy-sy*sy/n-slope*(sxy-sx*sy/n)) / n), true
}
