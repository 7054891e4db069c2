package gpu

import "math"

// How lags are searched for: first coarsely over the range, then finely around the best.
const (
	lagMinNs      = -50e6
	lagMaxNs      = 1500e6 // of polled power
	lagMaxStamped = 500e6  // of samples that carry their own time
	lagAgainNs    = 100e6  // range around a lag that is learnt
	lagCoarseNs   = 10e6
	lagFineNs     = 1e6
	lagMinCorr    = 0.6 // below this the load does not explain the power, and nothing is learnt
	lagMinSteps   = 6   // steps of the load that a window must hold
)

// lagOf returns by how much the power of c trails the load over [from, to], by cross-correlation: the
// lag at which the integral of (load at t) x (power at t + lag) is greatest, relative to what the load's
// and the power's own variance allow. corr is that relative value, 1 for power that is a linear function
// of the load. Lags are searched within near ± within.
//
// Both are step functions, so each lag costs one pass over the load's steps and is exact.
func lagOf(l *load, c *powerHistory, from, to, near, within int64) (lag int64, corr float64) {
	if l.steps(from, to) < lagMinSteps || !c.covers(from+near-within-lagCoarseNs) || !c.covers(to+near+within+lagCoarseNs) {
		return 0, 0
	}
	// The power's own variance is nearly the same at every lag, so the covariance alone shows where it
	// fits best. A load that repeats itself fits nearly as well one repetition later: of the good
	// lags the shortest counts.
	lag = firstGood(near-within, near+within, lagCoarseNs, 0.85, func(d int64) float64 {
		v, _ := covariance(l, c, from, to, d)
		return v
	})
	lag = firstGood(lag-lagCoarseNs, lag+lagCoarseNs, lagFineNs, 1, func(d int64) float64 {
		v, _ := covariance(l, c, from, to, d)
		return v
	})
	cov, varL := covariance(l, c, from, to, lag)
	span := float64(to - from)
	mean := (c.energy(to+lag) - c.energy(from+lag)) / span
	varP := c.squared(from+lag, to+lag)/span - mean*mean
	if varL <= 0 || varP <= 0 {
		return 0, 0
	}
	return lag, cov / math.Sqrt(varL*varP)
}

// firstGood returns the first local maximum of f on a grid that reaches part of the greatest value.
func firstGood(lo, hi, step int64, part float64, f func(int64) float64) int64 {
	n := int((hi-lo)/step) + 1
	values := make([]float64, n)
	best := math.Inf(-1)
	for i := range values {
		values[i] = f(lo + int64(i)*step)
		best = max(best, values[i])
	}
	for i, v := range values {
		if v >= part*best && (i == 0 || v >= values[i-1]) && (i == n-1 || v >= values[i+1]) {
			return lo + int64(i)*step
		}
	}
	return lo // only if f is nowhere a number
}

// covariance returns the covariance of the load over [from, to] and the power d later, and the load's
// variance.
func covariance(l *load, c *powerHistory, from, to, d int64) (cov, varL float64) {
	var sumL, sumLL, sumLP float64
	each := func(a, b int64, level float64) {
		if a, b = max(a, from), min(b, to); a >= b || level == 0 {
			return
		}
		dt := float64(b - a)
		sumL += level * dt
		sumLL += level * level * dt
		sumLP += level * (c.energy(b+d) - c.energy(a+d))
	}
	for i, t := range l.at {
		end := to
		if i+1 < len(l.at) {
			end = l.at[i+1]
		}
		each(t, end, l.level[i])
	}
	span := float64(to - from)
	meanL, meanP := sumL/span, (c.energy(to+d)-c.energy(from+d))/span
	return sumLP/span - meanL*meanP, sumLL/span - meanL*meanL
}

// squared returns the integral of the squared power (in the unit of energy per ns, squared, times ns).
func (c *powerHistory) squared(from, to int64) (sum float64) {
	for i := max(c.index(from), 1); i < len(c.at) && c.at[i-1] < to; i++ {
		a, b := max(c.at[i-1], from), min(c.at[i], to)
		p := (c.cum[i] - c.cum[i-1]) / float64(c.at[i]-c.at[i-1])
		sum += p * p * float64(b-a)
	}
	return sum
}

// counterFit returns how well the counter's values are a line in the curve's integral, at the shift between
// the two that suits them best: the line's slope (the counter's joules per joule of the curve) and the rms of
// what is left, in microjoules.
func counterFit(steps []counterStep, c *powerHistory) (slope, rms float64, ok bool) {
	rms = math.Inf(1)
	var shift int64
	try := func(lo, hi, step int64) {
		for x := lo; x <= hi; x += step {
			if s, r, fits := counterLine(steps, c, x); fits && r < rms {
				shift, slope, rms, ok = x, s, r, true
			}
		}
	}
	try(-1200e6, 400e6, 20e6)
	if ok {
		try(shift-20e6, shift+20e6, 2e6)
	}
	return slope, rms, ok
}

// counterLine fits the counter's values to the curve's integral d earlier than each step.
func counterLine(steps []counterStep, c *powerHistory, d int64) (slope, rms float64, ok bool) {
	var n, sx, sy, sxx, sxy, syy float64
	var x0, y0 float64
	for _, t := range steps {
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
