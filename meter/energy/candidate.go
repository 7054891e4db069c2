package energy

import "math"

// candidateModel is the decode model under another assumption about what the slots share. All learn from every
// run. Where a candidate's prediction differs from that of the model in use, their errors are compared, and the
// better one is used from then on.
type candidateModel struct {
	fit
	own, other float64 // faded sums of squared relative errors, of the model in use and of the candidate
	compared   int
}

const (
	candidateMin    = 4   // runs in which the two disagree before one can replace the other
	candidateBetter = 1.5 // factor by which its squared error must be smaller
	candidatePlain  = 0.1 // difference of the sums of squared errors for which candidateSoon runs are enough
	candidateSoon   = 2
	candidateApart  = 0.02 // relative difference of predictions that counts as disagreement
)

// learn shows all models a run and changes to a candidate that has proved better.
func (m *model) learn(g *decodeGroup, n *decodeRun, rel float64) {
	now := n.x[m.assumed]
	for s := range sharings {
		if s == m.assumed {
			continue
		}
		r := &m.candidates[s]
		told := s != sharedCache || n.x[s] != n.x[sharedRead] // only leftover cells distinguish a shared cache
		if n.distinguishable && told && m.decode.learnt() && r.learnt() {
			r.compare(dot(now, m.decode.coef), dot(n.x[s], r.coef), n.uj, rel)
		}
		r.observe(n.x[s], n.uj, rel)
	}
	m.decode.observe(now, n.uj, rel)
	for s := range sharings {
		r := &m.candidates[s]
		if s != m.assumed && r.proved() {
			m.candidates[m.assumed].fit = m.decode
			m.decode, m.assumed, g.sharing = r.fit, s, s
			for k := range m.candidates {
				m.candidates[k].own, m.candidates[k].other, m.candidates[k].compared = 0, 0, 0
			}
			return
		}
	}
}

// proved reports whether the candidate is the better model.
func (r *candidateModel) proved() bool {
	if r.own <= candidateBetter*r.other {
		return false
	}
	return r.compared >= candidateMin || r.compared >= candidateSoon && r.own-r.other > candidatePlain
}

// compare notes how far off the model in use and the candidate were in a run with a relative error of rel.
func (r *candidateModel) compare(own, other, uj, rel float64) {
	if math.Abs(own-other) < max(candidateApart, 2*rel)*uj {
		return
	}
	square := func(v float64) float64 {
		e := (uj - v) / uj
		return min(e*e, 0.25)
	}
	r.own = 0.9*r.own + square(own)
	r.other = 0.9*r.other + square(other)
	r.compared++
}
