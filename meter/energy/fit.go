package energy

import "math"

// fit learns non-negative coefficients from windows as they settle. Observations count by their
// relative error, old ones fade, and a weak prior keeps the proportions of what is known (defaults or
// saved coefficients) wherever the traffic cannot tell coefficients apart: one request at a time shows
// the sum of a step's and a token's cost, never the two.
type fit struct {
	data     normal
	prior    [unknowns]float64
	trust    float64           // relative standard deviation of the prior's proportions
	fixed    bool              // the prior's scale is known too
	slight   [unknowns]float64 // coefficients that are zero unless the traffic says otherwise: their size, in first ones
	theta    [unknowns]float64
	observed int
	rejected int                         // in a row
	cov      [unknowns][unknowns]float64 // covariance of theta, as far as the observations go
	err2     float64
	errN     float64
}

const (
	obsError    = 0.05  // relative error of one window
	fading      = 0.998 // weight kept by older windows at each new one
	defaultRel  = 0.7   // trust in the proportions of the defaults
	importedRel = 0.2   // and in those of saved coefficients
	minObserved = 3     // windows before the coefficients count as learnt
	floorRho    = 0.02
	rhoPrior    = 0.05 // error assumed at first, with the weight of rhoPriorN windows
	rhoPriorN   = 4
)

func (f *fit) start(prior [unknowns]float64, observed int, rho float64) {
	f.prior, f.theta, f.trust = prior, prior, defaultRel
	if observed > 0 {
		f.trust, f.fixed = importedRel, true
		f.observed = min(observed, 100)
		f.errN = 60
		f.err2 = max(0, rho*rho*(f.errN+rhoPriorN)-rhoPriorN*rhoPrior*rhoPrior)
	}
}

// learnt reports whether theta describes this device and model.
func (f *fit) learnt() bool { return f.observed >= minObserved }

// rho is the relative rms error of predictions made before the window was learnt from.
func (f *fit) rho() float64 {
	return max(floorRho, math.Sqrt((f.err2+rhoPriorN*rhoPrior*rhoPrior)/(f.errN+rhoPriorN)))
}

// observe learns that work x cost y microjoules, y having a relative error of rel beside the model's own.
func (f *fit) observe(x [unknowns]float64, y, rel float64) {
	if y <= 0 || !(rel < 1) {
		return // its error is larger than what it tells
	}
	if f.learnt() {
		e := (y - dot(x, f.theta)) / y
		if math.Abs(e) > max(0.5, 6*f.rho()) && f.rejected < 8 {
			f.rejected++
			return
		}
		own := max(0, e*e-rel*rel)
		w := obsError * obsError / (obsError*obsError + rel*rel) // a window full of edges tells little
		f.err2, f.errN = 0.97*f.err2+w*own, 0.97*f.errN+w
	}
	f.rejected = 0
	f.observed++
	f.data.scale(fading)
	f.data.add(x, y, 1/((obsError*obsError+rel*rel)*y*y))
	f.solve()
}

func (f *fit) solve() {
	n := f.data
	prior := f.scaledPrior()
	for i, m := range prior {
		if size := f.slight[i] * prior[0]; m == 0 && size > 0 {
			n.A[i][i] += 1 / (size * size)
		}
		if m <= 0 {
			continue
		}
		w := 1 / (f.trust * f.trust * m * m)
		n.A[i][i] += w
		n.B[i] += w * m
		n.YY += w * m * m
	}
	if t := n.nonNegative(); t != [unknowns]float64{} {
		f.theta = t
	}
	f.cov = n.inverse()
}

// variance is that of the linear form x theta.
func (f *fit) variance(x [unknowns]float64) float64 {
	var v float64
	for i := range x {
		for j := range x {
			v += x[i] * f.cov[i][j] * x[j]
		}
	}
	return max(v, 0)
}

// scaledPrior is the prior, its proportions stretched to fit the observations best.
func (f *fit) scaledPrior() [unknowns]float64 {
	p := f.prior
	if f.fixed {
		return p
	}
	var dB, dAd float64
	for i, d := range p {
		dB += d * f.data.B[i]
		for j, e := range p {
			dAd += d * f.data.A[i][j] * e
		}
	}
	if dAd <= 0 || dB <= 0 {
		return p
	}
	for i := range p {
		p[i] *= dB / dAd
	}
	return p
}
