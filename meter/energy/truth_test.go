package energy_test

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"wattline/meter/energy"
)

var mixes = flag.Int("mixes", 40, "random mixes per sensor profile; LEDGER.md's table is made with 1000")

// scored is one request's error.
type scored struct {
	seconds           float64
	concurrent        int
	off               float64 // relative error of the total
	activeOff         float64
	z                 float64 // error in units of sigma
	quality           energy.Quality
	sigma             float64 // relative
	timeOff, tokenOff float64
}

// family plays mixes on one drawn card, one after the other, to one ledger.
func family(seed uint64, n int, p profile) []scored {
	r := rand.New(rand.NewPCG(seed, 77))
	s := &server{p: drawPhysics(r), slots: 1 << r.IntN(6), rng: r}
	s.idle(4)
	var key uint64
	var jobs []*job
	const warm = 4 // mixes that are played and not scored: the ledger learns
	scoredFrom := uint64(0)
	for m := range n + warm {
		if m == warm {
			scoredFrom = key
		}
		count := 2 + r.IntN(2*s.slots+2)
		mix := drawMix(r, &key, count, s.slots, s.now+0.05)
		s.run(mix, 1.2+r.Float64())
		jobs = append(jobs, mix...)
	}
	got, _ := play(seed, s, p)
	var out []scored
	for _, j := range jobs {
		x, ok := got[j.key]
		if j.key <= scoredFrom || !ok {
			continue
		}
		truth := j.trueJ() * 1e6
		err := float64(x.TotalUJ) - truth
		out = append(out, scored{
			seconds: j.end - j.start, concurrent: j.concurrent, off: err / truth, z: err / float64(x.SigmaUJ),
			activeOff: float64(x.ActiveUJ)/(j.activeJ*1e6) - 1,
			quality:   x.Quality, sigma: float64(x.SigmaUJ) / truth,
			timeOff: float64(x.TimeUJ)/truth - 1, tokenOff: float64(x.TokenUJ)/truth - 1,
		})
	}
	return out
}

// play feeds a simulated server's life to a ledger with the profile's sensors.
func play(seed uint64, s *server, p profile) (map[uint64]energy.Result, *sensors) {
	n := newSensors(rand.New(rand.NewPCG(seed, 78)), s)
	p.feed(n)
	l := energy.New(p.cfg)
	for range s.upstream + 1 {
		l.AddUpstream(energy.Coefficients{}, s.p.unified)
	}
	for _, e := range s.events {
		n.facts = append(n.facts, fact{e.At, func(l *energy.Ledger) { l.Event(e) }})
	}
	slices.SortStableFunc(n.facts, func(a, b fact) int { return cmp.Compare(a.at, b.at) })
	got := map[uint64]energy.Result{}
	for _, f := range n.facts {
		l.Advance(f.at)
		f.tell(l)
	}
	l.Close(n.facts[len(n.facts)-1].at)
	for x, ok := l.Next(); ok; x, ok = l.Next() {
		got[x.Request] = x
	}
	return got, n
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// classes are the duration classes of the table.
var classes = []struct {
	name   string
	lo, hi float64
}{{"< 0.5 s", 0, 0.5}, {"0.5-2 s", 0.5, 2}, {"2-10 s", 2, 10}, {"> 10 s", 10, 1e9}}

// TestTruth plays random mixes on drawn cards to ledgers with every sensor profile, and prints how far each
// request's joules are off. It fails where they are much farther off than LEDGER.md says.
func TestTruth(t *testing.T) {
	const perFamily = 5
	limits := map[string]float64{"H100 ring": 0.02, "A100 100 ms": 0.04, "RTX 1 s average": 0.04, "counter only": 0.03}
	for _, p := range profiles() {
		t.Run(p.name, func(t *testing.T) {
			var all []scored
			for f := range uint64((*mixes + perFamily - 1) / perFamily) {
				all = append(all, family(f, perFamily, p)...)
			}
			t.Logf("| %s | requests | off, median | p95 | active off, median | p95 | sigma, median | within 95 %% interval | by time, median | by token |", p.name)
			for _, c := range classes {
				report(t, c.name, filter(all, func(s scored) bool { return s.seconds >= c.lo && s.seconds < c.hi }))
			}
			for _, c := range [][2]int{{1, 1}, {2, 4}, {5, 8}, {9, 16}, {17, 32}} {
				report(t, fmt.Sprintf("%d-%d at once", c[0], c[1]), filter(all, func(s scored) bool { return s.concurrent >= c[0] && s.concurrent <= c[1] }))
			}
			median, inside := report(t, "all", all)
			scoreTruth(t, p.name, all, inside)
			if median > limits[p.name] {
				t.Errorf("half of the requests are off by more than %.1f %%, at most %.0f %% allowed", 100*median, 100*limits[p.name])
			}
			if inside < 0.88 {
				t.Errorf("the truth lies in %.0f %% of the 95 %% intervals", 100*inside)
			}
		})
	}
}

// scoreTruth prints the figures that the ablation test compares.
func scoreTruth(t *testing.T, name string, all []scored, inside float64) {
	var off, active []float64
	var sum, alone, aloneInside float64
	for _, s := range all {
		if s.concurrent == 1 {
			alone++
			if math.Abs(s.z) <= 1.96 {
				aloneInside++
			}
		}
		off, active = append(off, math.Abs(s.off)), append(active, math.Abs(s.activeOff))
		sum += s.activeOff * s.activeOff
	}
	name = "sim-" + strings.ReplaceAll(name, " ", "-")
	score(t, name+"/median", 100*quantile(off, 0.5))
	score(t, name+"/p95", 100*quantile(off, 0.95))
	score(t, name+"/active-median", 100*quantile(active, 0.5))
	score(t, name+"/active-p95", 100*quantile(active, 0.95))
	score(t, name+"/active-rms", 100*math.Sqrt(sum/float64(len(all))))
	score(t, name+"/coverage", 100*inside)
	score(t, name+"/alone-coverage", 100*aloneInside/max(alone, 1))
}

func score(t *testing.T, name string, v float64) {
	t.Helper()
	t.Logf("score %s %.3f", name, v)
}

func filter(in []scored, keep func(scored) bool) []scored {
	var out []scored
	for _, s := range in {
		if keep(s) {
			out = append(out, s)
		}
	}
	return out
}

// report prints a row of the table and returns the median error and how often the truth lies inside the
// stated 95 % interval.
func report(t *testing.T, name string, in []scored) (median, inside float64) {
	if len(in) == 0 {
		return 0, 1
	}
	var off, active, sigma, timeOff, tokenOff []float64
	for _, s := range in {
		off = append(off, math.Abs(s.off))
		active = append(active, math.Abs(s.activeOff))
		sigma = append(sigma, s.sigma)
		timeOff = append(timeOff, math.Abs(s.timeOff))
		tokenOff = append(tokenOff, math.Abs(s.tokenOff))
		if math.Abs(s.z) <= 1.96 {
			inside += 1 / float64(len(in))
		}
	}
	median = quantile(off, 0.5)
	t.Logf("| %s | %d | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.0f %% | %.0f %% |", name, len(in),
		100*median, 100*quantile(off, 0.95), 100*quantile(active, 0.5), 100*quantile(active, 0.95), 100*quantile(sigma, 0.5),
		100*inside, 100*quantile(timeOff, 0.5), 100*quantile(tokenOff, 0.5))
	return median, inside
}

// inOrder lists the results in the jobs' order.
func inOrder(got map[uint64]energy.Result, jobs []*job) []energy.Result {
	out := make([]energy.Result, len(jobs))
	for i, j := range jobs {
		out[i] = got[j.key]
	}
	return out
}
