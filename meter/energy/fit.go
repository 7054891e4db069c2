package energy

import "math"

// fit learns non-negative coefficients by weighted least squares. Observations are weighted by their relative error,
// and old ones fade. A weak prior keeps the proportions of what is known (defaults or saved coefficients) where
// the traffic cannot tell coefficients apart: one request at a time shows the sum of a step's and a token's
// cost, never each.
type fit struct {
	data            normal
	prior           [unknowns]float64
	trust           float64           // relative standard deviation of the prior's proportions
	priorScaleKnown bool              // the prior's scale is known too
	optional        [unknowns]float64 // of coefficients with prior 0: their standard deviation, in units of the first coefficient
	coef            [unknowns]float64
	observed        int
	rejected        int                         // in a row
	cov             [unknowns][unknowns]float64 // covariance of coef
	errSum          float64
	errWeight       float64
}

const (
	obsError       = 0.05  // relative error of one window
	fading         = 0.998 // of older observations' weight, at each new one
	defaultRel     = 0.7   // trust in the proportions of the defaults
	importedRel    = 0.2   // and in those of saved coefficients
	minObserved    = 3     // observations before the coefficients count as learnt
	minRelError    = 0.02
	priorRelError  = 0.05 // error assumed at first, with the weight of priorRelErrorN observations
	priorRelErrorN = 4
)

func (f *fit) start(prior [unknowns]float64, observed int, rho float64) {
	f.prior, f.coef, f.trust = prior, prior, defaultRel
	if observed > 0 {
		f.trust, f.priorScaleKnown = importedRel, true
		f.observed = min(observed, 100)
		f.errWeight = 60
		f.errSum = max(0, rho*rho*(f.errWeight+priorRelErrorN)-priorRelErrorN*priorRelError*priorRelError)
	}
}

// learnt reports whether coef describes this device and model.
func (f *fit) learnt() bool { return f.observed >= minObserved }

// relError is the relative rms error of predictions for observations not learnt from yet.
func (f *fit) relError() float64 {
	return max(minRelError, math.Sqrt((f.errSum+priorRelErrorN*priorRelError*priorRelError)/(f.errWeight+priorRelErrorN)))
}

// observe learns that work x cost y uJ. The relative error of y, apart from the model's, is rel.
func (f *fit) observe(x [unknowns]float64, y, rel float64) {
	if y <= 0 || !(rel < 1) {
		return // its error is larger than its value
	}
	if f.learnt() {
		e := (y - dot(x, f.coef)) / y
		if math.Abs(e) > max(0.5, 6*f.relError()) && f.rejected < 8 {
			f.rejected++
			return
		}
		own := max(0, e*e-rel*rel)
		w := obsError * obsError / (obsError*obsError + rel*rel) // an observation with a large error says little about the model's
		f.errSum, f.errWeight = 0.97*f.errSum+w*own, 0.97*f.errWeight+w
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
		if size := f.optional[i] * prior[0]; m == 0 && size > 0 {
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
		f.coef = t
	}
	f.cov = n.inverse()
}

// variance is the variance of dot(x, coef).
func (f *fit) variance(x [unknowns]float64) float64 {
	var v float64
	for i := range x {
		for j := range x {
			v += x[i] * f.cov[i][j] * x[j]
		}
	}
	return max(v, 0)
}

// scaledPrior is the prior times the factor that fits the observations best.
func (f *fit) scaledPrior() [unknowns]float64 {
	p := f.prior
	if f.priorScaleKnown {
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
