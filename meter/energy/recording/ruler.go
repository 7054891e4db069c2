package recording

import (
	"cmp"
	"math"
	"slices"

	"wattline/meter/energy"
)

// Score is how far a method is off. RULER.md says how the figures are computed.
type Score struct {
	Method       string
	Shares       int     // that the relative errors are of
	RMS          float64 // of the shares' relative errors
	Worst        float64 // the largest of them, with its sign
	Coverage     float64 // requests with the truth within 1.96 standard errors; NaN where the method gives none
	Conservation float64 // all that the method charged, of all that the runs drew above idle
	requests     int     // that Coverage is of
	square       float64 // sum of the squares of the relative errors
	given, drawn float64 // J
}

// SmallestShare is the smallest true share, in J, with a relative error that is scored. Smaller ones count in Coverage and
// Conservation only.
const SmallestShare = 5.0

// Methods are the ways to divide joules that Ruler scores.
var Methods = []string{"phase", "by time", "by token", "whole GPU", "utilisation split", "run total"}

// Ruler holds what methods are scored against.
type Ruler struct {
	traffic *Traffic
	truth   []True
	curve   *curve
	runs    map[string]*rulerRun
}

// rulerRun is one experiment: what the device drew above idle while its requests ran.
type rulerRun struct {
	requests   []int
	begin, end int64
	active     float64
	idleW      float64
}

// NewRuler returns a ruler for a recording and its truth.
func NewRuler(d *Device, t *Traffic, truth []True) (*Ruler, error) {
	c, err := d.curve()
	if err != nil {
		return nil, err
	}
	r := &Ruler{traffic: t, truth: truth, curve: c, runs: map[string]*rulerRun{}}
	for _, k := range truth {
		q := &t.Requests[k.Request]
		n := r.runs[k.Run]
		if n == nil {
			n = &rulerRun{begin: q.Send, idleW: k.IdleW}
			r.runs[k.Run] = n
		}
		n.requests = append(n.requests, k.Request)
		n.begin, n.end = min(n.begin, q.Send), max(n.end, q.End)
	}
	for _, n := range r.runs {
		n.active = r.above(n.begin-15e7, n.end+3e8, n.idleW)
	}
	return r, nil
}

// above is the device's draw above its idle draw.
func (r *Ruler) above(from, to int64, idleW float64) float64 {
	return r.curve.joules(to) - r.curve.joules(from) - idleW*float64(to-from)/1e9
}

// Answers divides the joules by a method. results are the ledger's, by place.
func (r *Ruler) Answers(method string, results []energy.Result) map[int]Answer {
	out := map[int]Answer{}
	for _, n := range r.runs {
		r.divide(method, n, results, out)
	}
	return out
}

func (r *Ruler) divide(method string, n *rulerRun, results []energy.Result, out map[int]Answer) {
	weighed := func(weight func(int) float64) {
		var sum float64
		for _, i := range n.requests {
			sum += weight(i)
		}
		for _, i := range n.requests {
			if out[i] = (Answer{}); sum > 0 {
				out[i] = Answer{Joules: n.active * weight(i) / sum}
			}
		}
	}
	switch method {
	case "phase":
		for _, i := range n.requests {
			out[i] = Answer{Joules: float64(results[i].ActiveUJ) / 1e6, Sigma: float64(results[i].ActiveSigmaUJ) / 1e6, HasSigma: true}
		}
	case "by time":
		weighed(func(i int) float64 { return float64(results[i].TimeUJ) })
	case "by token":
		weighed(func(i int) float64 { return float64(results[i].TokenUJ) })
	case "run total":
		weighed(func(int) float64 { return 1 })
	case "whole GPU":
		for _, i := range n.requests {
			q := &r.traffic.Requests[i]
			out[i] = Answer{Joules: r.above(q.Send, q.End, n.idleW)}
		}
	case "utilisation split":
		r.divideByUtilisation(n, out)
	}
}

// utilisationEvery is how often the utilisation is read, in ns.
const utilisationEvery = int64(5e9)

// divideByUtilisation divides what was drawn above idle in each interval by how long each request was served in it.
func (r *Ruler) divideByUtilisation(n *rulerRun, out map[int]Answer) {
	for _, i := range n.requests {
		out[i] = Answer{}
	}
	busy := make([]float64, len(n.requests))
	for from := n.begin - 15e7; from < n.end+3e8; from += utilisationEvery {
		to := min(from+utilisationEvery, n.end+3e8)
		var sum float64
		for k, i := range n.requests {
			q := &r.traffic.Requests[i]
			start := q.Send
			if q.Header != nil {
				start = *q.Header
			}
			busy[k] = float64(max(0, min(to, q.End)-max(from, start)))
			sum += busy[k]
		}
		if sum == 0 {
			continue
		}
		joules := r.above(from, to, n.idleW)
		for k, i := range n.requests {
			a := out[i]
			a.Joules += joules * busy[k] / sum
			out[i] = a
		}
	}
}

// Active takes the idle draw out of totals: equal parts, at each moment, for all requests of the run in flight.
func (r *Ruler) Active(totals map[int]Answer) map[int]Answer {
	out := map[int]Answer{}
	for _, n := range r.runs {
		idle := r.idleShares(n)
		for k, i := range n.requests {
			if a, ok := totals[i]; ok {
				a.Joules -= idle[k]
				out[i] = a
			}
		}
	}
	return out
}

func (r *Ruler) idleShares(n *rulerRun) []float64 {
	var cuts []int64
	for _, i := range n.requests {
		cuts = append(cuts, r.traffic.Requests[i].Send, r.traffic.Requests[i].End)
	}
	slices.Sort(cuts)
	share := make([]float64, len(n.requests))
	for c := 1; c < len(cuts); c++ {
		var in []int
		for k, i := range n.requests {
			if q := &r.traffic.Requests[i]; q.Send <= cuts[c-1] && q.End >= cuts[c] {
				in = append(in, k)
			}
		}
		for _, k := range in {
			share[k] += n.idleW * float64(cuts[c]-cuts[c-1]) / 1e9 / float64(len(in))
		}
	}
	return share
}

// Score scores answers by place, joules above idle. A request without an answer counts as 0 J. kind: only requests of that
// kind; "" all.
func (r *Ruler) Score(method, kind string, answers map[int]Answer) Score {
	s := Score{Method: method}
	type mean struct{ answer, truth, n float64 }
	shares := map[string]*mean{}
	inside, sigmas := 0, false
	for _, k := range r.truth {
		if kind != "" && k.Kind != kind {
			continue
		}
		a := answers[k.Request]
		m := shares[k.Share]
		if m == nil {
			m = &mean{truth: k.Joules}
			shares[k.Share] = m
		}
		m.answer, m.n = m.answer+a.Joules, m.n+1
		s.given += a.Joules
		s.requests++
		sigmas = sigmas || a.HasSigma
		if math.Abs(a.Joules-k.Joules) <= 1.96*math.Hypot(a.Sigma, k.Error) {
			inside++
		}
		if kind != "" {
			s.drawn += k.Joules
		}
	}
	for _, m := range shares {
		if m.truth < SmallestShare {
			continue
		}
		off := m.answer/m.n/m.truth - 1
		s.Shares++
		s.square += off * off
		if math.Abs(off) > math.Abs(s.Worst) {
			s.Worst = off
		}
	}
	if s.Coverage = math.NaN(); sigmas {
		s.Coverage = float64(inside) / float64(s.requests)
	}
	if kind == "" {
		for _, n := range r.runs {
			s.drawn += n.active
		}
	}
	s.finish()
	return s
}

func (s *Score) finish() {
	s.RMS = math.Sqrt(s.square / float64(s.Shares))
	s.Conservation = s.given / s.drawn
}

// Kinds lists the kinds of requests in the truth.
func (r *Ruler) Kinds() (kinds []string) {
	for _, k := range r.truth {
		if k.Kind != "" && !slices.Contains(kinds, k.Kind) {
			kinds = append(kinds, k.Kind)
		}
	}
	slices.SortFunc(kinds, cmp.Compare)
	return kinds
}

// PoolScores joins the scores of one method on several recordings.
func PoolScores(of []Score) Score {
	out := Score{Method: of[0].Method}
	inside, n := 0.0, 0
	for _, s := range of {
		out.Shares += s.Shares
		out.square += s.square
		out.given, out.drawn = out.given+s.given, out.drawn+s.drawn
		out.requests += s.requests
		if math.Abs(s.Worst) > math.Abs(out.Worst) {
			out.Worst = s.Worst
		}
		if !math.IsNaN(s.Coverage) {
			inside += s.Coverage * float64(s.requests)
			n += s.requests
		}
	}
	if out.Coverage = math.NaN(); n > 0 {
		out.Coverage = inside / float64(n)
	}
	out.finish()
	return out
}
