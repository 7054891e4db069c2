package recording

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"wattline/meter/energy"
)

// Share compares a request's share by the ledger with its true share: the Shapley value of the game in which every
// smaller coalition of the same requests was run and measured too. Joules are active, means over the rounds.
type Share struct {
	Coalition string // the requests that ran together, a letter each
	Who       string
	True      float64
	Error     float64 // standard error of True over the rounds
	Phase     float64 // by the ledger's own rule
	Time      float64 // by the simple rules: their part of what the coalition drew
	Token     float64
	WorstRun  float64            // of all rounds, the Phase that is farthest from True
	idleW     map[string]float64 // by run
}

// Off is by how much, relative to the truth, v is off.
func (s *Share) Off(v float64) float64 { return v/s.True - 1 }

// RMS is the root of the mean square of the shares' relative errors by the rule that pick picks.
func RMS(shares []Share, pick func(*Share) float64) float64 {
	var sum float64
	for i := range shares {
		o := shares[i].Off(pick(&shares[i]))
		sum += o * o
	}
	return math.Sqrt(sum / float64(len(shares)))
}

// Limits that a release demands of the phase rule against measured shares.
const (
	maxRMS   = 0.03
	maxShare = 0.05 // plus twice the truth's standard error
	maxRun   = 0.08
)

// Exceeding says, in a sentence each, where the phase rule is farther from the truth than a release may be.
func Exceeding(shares []Share) []string {
	var bad []string
	if rms := RMS(shares, func(s *Share) float64 { return s.Phase }); rms > maxRMS {
		bad = append(bad, fmt.Sprintf("the rms error is %.1f %%, at most %.0f %% may be", 100*rms, 100*maxRMS))
	}
	for i := range shares {
		s := &shares[i]
		if off := math.Abs(s.Phase - s.True); off > maxShare*s.True+2*s.Error {
			bad = append(bad, fmt.Sprintf("%s's share in %s is off by %.1f %%", s.Who, s.Coalition, 100*off/s.True))
		}
		if off := s.Off(s.WorstRun); math.Abs(off) > maxRun {
			bad = append(bad, fmt.Sprintf("a run of %s gives %s a share that is off by %.1f %%", s.Coalition, s.Who, 100*off))
		}
	}
	return bad
}

// run is one coalition in one round.
type run struct {
	members string
	round   int
	active  float64 // J above idle
	idleW   float64
	of      map[string]*energy.Result
}

// Coalitions reads a recording in which every coalition of a few requests was run, as gpu-host's
// coalitions.py does: a mark "WX/0:pre" begins the quiet before round 0 of W and X together, "WX/0" its
// start, "WX/0:post" its end; the requests carry the tag "WX/0" and their names. results are the
// ledger's, by position in t.Requests. It returns the shares of every coalition of two and more.
func Coalitions(d *Device, t *Traffic, results []energy.Result) ([]Share, error) {
	c := newCurve(d.Readings)
	if len(c.at) < 10 {
		return nil, errors.New("coalitions: the recording has no energy counter to tell the truth from")
	}
	var runs []run
	for i, m := range t.Marks {
		if strings.Contains(m.Name, ":") || !strings.Contains(m.Name, "/") {
			continue
		}
		if i == 0 || i+1 >= len(t.Marks) {
			return nil, fmt.Errorf("coalitions: mark %q has no quiet before and after it", m.Name)
		}
		r, err := measure(c, t, results, m, t.Marks[i-1], t.Marks[i+1])
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return shapley(runs)
}

// measure takes the active joules of one run: what the counter shows from its start to a moment after its
// end, less the idle draw measured just before and after.
func measure(c *curve, t *Traffic, results []energy.Result, m, pre, post Mark) (run, error) {
	const settled, tail, rest = int64(6e8), int64(3e8), int64(11e8)
	// Between two steps of the counter, 100 ms apart, the curve is a straight line: what work draws just after the
	// mark would count before it, and as idle draw for the whole run.
	const lead = int64(15e7)
	members, round, _ := strings.Cut(m.Name, "/")
	k, err := strconv.Atoi(round)
	if err != nil {
		return run{}, fmt.Errorf("coalitions: mark %q: %w", m.Name, err)
	}
	r := run{members: members, round: k, of: map[string]*energy.Result{}}
	end := m.At
	for i := range t.Requests {
		if q := &t.Requests[i]; q.Tag == m.Name {
			r.of[q.Who] = &results[i]
			end = max(end, q.End)
		}
	}
	if len(r.of) != len(members) {
		return run{}, fmt.Errorf("coalitions: %d requests are tagged %q", len(r.of), m.Name)
	}
	begin := m.At - lead
	before := c.mean(pre.At+settled, begin)
	after := c.mean(max(post.At, end)+settled, post.At+rest)
	idle := (before + after) / 2
	r.idleW = idle
	r.active = c.joules(end+tail) - c.joules(begin) - idle*float64(end+tail-begin)/1e9
	return r, nil
}

// shapley computes the shares of every coalition of two and more.
func shapley(runs []run) ([]Share, error) {
	rounds := map[int]map[string]*run{}
	names := map[string]bool{}
	for i := range runs {
		r := &runs[i]
		if rounds[r.round] == nil {
			rounds[r.round] = map[string]*run{}
		}
		rounds[r.round][r.members] = r
		names[r.members] = true
	}
	var out []Share
	for name := range names {
		if len(name) < 2 {
			continue
		}
		for _, who := range name {
			s, err := share(rounds, name, string(who))
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(len(a.Coalition), len(b.Coalition)), cmp.Compare(a.Coalition, b.Coalition), cmp.Compare(a.Who, b.Who))
	})
	if len(out) == 0 {
		return nil, errors.New("coalitions: no marks like WX/0 in requests.jsonl")
	}
	return out, nil
}

func share(rounds map[int]map[string]*run, name, who string) (Share, error) {
	s := Share{Coalition: name, Who: who, idleW: map[string]float64{}}
	var truth, phase []float64
	for k, runs := range rounds {
		v, err := value(runs, name, who)
		if err != nil {
			return s, fmt.Errorf("coalitions: round %d: %w", k, err)
		}
		r := runs[name]
		s.idleW[fmt.Sprintf("%s/%d", name, k)] = r.idleW
		truth = append(truth, v)
		phase = append(phase, float64(r.of[who].ActiveUJ)/1e6)
		var time, token float64
		for _, o := range r.of {
			time += float64(o.TimeUJ)
			token += float64(o.TokenUJ)
		}
		n := float64(len(rounds))
		s.Time += r.active * float64(r.of[who].TimeUJ) / time / n
		s.Token += r.active * float64(r.of[who].TokenUJ) / token / n
	}
	s.True, s.Error = meanError(truth)
	s.Phase, _ = meanError(phase)
	for _, p := range phase {
		if math.Abs(p-s.True) > math.Abs(s.WorstRun-s.True) || s.WorstRun == 0 {
			s.WorstRun = p
		}
	}
	return s, nil
}

// value is the Shapley value of a request in the coalition name: the mean, over all orders of arrival, of what it
// adds to the requests before it.
func value(runs map[string]*run, name, who string) (float64, error) {
	others := strings.ReplaceAll(name, who, "")
	n := len(name)
	var sum float64
	for set := range 1 << len(others) {
		var without, with strings.Builder
		size := 0
		for _, c := range name {
			k := strings.IndexRune(others, c)
			if k >= 0 && set>>k&1 == 1 {
				without.WriteRune(c)
				size++
			}
			if k < 0 || set>>k&1 == 1 {
				with.WriteRune(c)
			}
		}
		a, err := active(runs, with.String())
		if err != nil {
			return 0, err
		}
		b, err := active(runs, without.String())
		if err != nil {
			return 0, err
		}
		sum += (a - b) / float64(n*binomial(n-1, size))
	}
	return sum, nil
}

func active(runs map[string]*run, name string) (float64, error) {
	if name == "" {
		return 0, nil
	}
	r, ok := runs[name]
	if !ok {
		return 0, fmt.Errorf("coalition %s was not run", name)
	}
	return r.active, nil
}

func binomial(n, k int) int {
	v := 1
	for i := range k {
		v = v * (n - i) / (i + 1)
	}
	return v
}

// meanError is the mean and its standard error.
func meanError(v []float64) (mean, se float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		se += (x - mean) * (x - mean)
	}
	if len(v) < 2 {
		return mean, 0
	}
	return mean, math.Sqrt(se / float64(len(v)-1) / float64(len(v)))
}
