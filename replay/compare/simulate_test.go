package compare

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// noise of a made-up server, as parts of the value: trials differ, requests differ, some requests are much slower, and the
// whole drifts over the session. It is what repeated quick grids on a busy CPU and on an H100 look like.
type noise struct {
	trial, request, outliers, outlierSize, drift float64
}

// The four metrics that are made up, by their indexes in metrics.
var simulated = []int{0, 1, 3, 4} // ttft, decode, e2e, J/token

// truth is the effect of "x % slower" on a metric, as a logarithm.
func truth(m int, slower float64) float64 {
	if metrics[m].lower {
		return math.Log1p(slower)
	}
	return -math.Log1p(slower)
}

// session makes an interleaved session of whole rounds.
func session(seed uint64, slower float64, rounds, cells, requests int, n noise) (*Side, *Side) {
	rng := rand.New(rand.NewPCG(seed, 7))
	sides := [2]*Side{{Label: "a", workload: "w"}, {Label: "b", workload: "w"}}
	begin := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	total := float64(rounds * roundSize)
	for trial := range rounds * roundSize {
		s := 0
		if Turn(trial) {
			s = 1
		}
		common := n.trial * rng.NormFloat64() // of the whole trial
		for c := range cells {
			for i := range requests {
				at := begin.Add(time.Duration(trial)*10*time.Second + time.Duration(c*requests+i)*time.Second/10)
				o := observation{cell: fmt.Sprintf("cell %d", c), trial: trial, at: at, y: make([]float64, len(metrics))}
				for m := range o.y {
					o.y[m] = math.NaN()
				}
				slow := n.request * rng.NormFloat64() // of the whole request
				if rng.Float64() < n.outliers {
					slow += n.outlierSize * rng.ExpFloat64()
				}
				for _, m := range simulated {
					v := common + slow + n.request/2*rng.NormFloat64() + n.drift*float64(trial)/total
					if !metrics[m].lower {
						v = -v
					}
					o.y[m] = float64(c) + v
					if s == 1 {
						o.y[m] += truth(m, slower)
					}
				}
				sides[s].observations = append(sides[s].observations, o)
			}
		}
	}
	for _, s := range sides {
		s.Requests = len(s.observations)
		s.finish()
	}
	return sides[0], sides[1]
}

// measured is a session that ends as a live one does: when every interval is narrow enough, or with the budget.
func measured(t testing.TB, seed uint64, slower float64, budget, cells, requests int, n noise) (*Result, int) {
	a, b := session(seed, slower, budget, cells, requests, n)
	cut := func(s *Side, rounds int) *Side {
		c := *s
		c.observations = nil
		for _, o := range s.observations {
			if o.trial < rounds*roundSize {
				c.observations = append(c.observations, o)
			}
		}
		return &c
	}
	for rounds := MinRounds; ; rounds++ {
		ca, cb := cut(a, rounds), cut(b, rounds)
		look, err := Compare(ca, cb, Options{Look: true})
		if err != nil {
			t.Fatal(err)
		}
		if look.Widest() <= Narrow || rounds >= budget {
			r, err := Compare(ca, cb, Options{Resamples: 600})
			if err != nil {
				t.Fatal(err)
			}
			return r, rounds
		}
	}
}

// score counts what sessions of one effect said.
type score struct {
	sessions, falseSessions    int
	metrics, told, covered     int
	same, better, worse, dunno int
	rounds                     int
}

func (s *score) add(r *Result, rounds int, slower float64) {
	s.sessions++
	s.rounds += rounds
	wrong := false
	for _, m := range r.Metrics {
		if m.Verdict == NotMeasured {
			continue
		}
		s.metrics++
		switch m.Verdict {
		case Same:
			s.same++
			wrong = wrong || slower > DefaultMargin
		case Better:
			s.better++
			wrong = true
		case Worse:
			s.worse++
			wrong = wrong || slower == 0
		case CannotTell:
			s.dunno++
		}
		want := 100 * math.Expm1(truth(indexOf(m.Key), slower))
		if m.Effect.Low.V <= want && want <= m.Effect.High.V {
			s.covered++
		}
	}
	if wrong {
		s.falseSessions++
	}
}

func indexOf(key string) int {
	for i, m := range metrics {
		if m.key == key {
			return i
		}
	}
	return -1
}

func share(n, of int) float64 { return 100 * float64(n) / float64(of) }

// The noise of the simulated sessions.
var noises = map[string]noise{
	"calm GPU": {trial: 0.004, request: 0.01, outliers: 0.01, outlierSize: 0.1, drift: 0.03},
	"busy CPU": {trial: 0.02, request: 0.04, outliers: 0.03, outlierSize: 0.3, drift: 0.1},
	"requests": {trial: 0, request: 0.05, outliers: 0.02, outlierSize: 0.2, drift: 0},
	"trials":   {trial: 0.02, request: 0.005, outliers: 0, outlierSize: 0, drift: -0.05},
}

// simulate runs sessions of every effect and holds them to what is promised.
func simulate(t *testing.T, sessions, budget int, effects []float64) {
	t.Helper()
	var table strings.Builder
	covered, metricsSeen := 0, 0
	for name, n := range noises {
		for _, slower := range effects {
			s := scores(t, sessions, budget, slower, n)
			covered, metricsSeen = covered+s.covered, metricsSeen+s.metrics
			fmt.Fprintf(&table, "%-9s %3.0f %% slower: false verdicts in %.1f %% of %d sessions; of verdicts %.1f %% worse, %.1f %% better, %.1f %% same, %.1f %% cannot tell; coverage %.1f %%; %.1f rounds\n",
				name, 100*slower, share(s.falseSessions, s.sessions), s.sessions, share(s.worse, s.metrics), share(s.better, s.metrics), share(s.same, s.metrics), share(s.dunno, s.metrics),
				share(s.covered, s.metrics), float64(s.rounds)/float64(s.sessions))
			slack := 3 * math.Sqrt(5*95/float64(sessions)) // of chance, in percent
			if f := share(s.falseSessions, s.sessions); f > 5+slack {
				t.Errorf("%s, %g %% slower: false verdicts in %.1f %% of the sessions", name, 100*slower, f)
			}
			if p := share(s.worse, s.metrics); slower >= 0.03 && p < 80 {
				t.Errorf("%s, %g %% slower: found in %.1f %%", name, 100*slower, p)
			}
		}
	}
	t.Log("\n" + table.String())
	slack := 0.0 // the metrics of a session depend on each other
	if sessions < 100 {
		slack = 2 * math.Sqrt(5*95/float64(sessions*len(noises)*len(effects)))
	}
	if c := share(covered, metricsSeen); c < 93-slack || c > 97+slack {
		t.Errorf("the intervals cover the truth in %.1f %%", c)
	}
}

func scores(t *testing.T, sessions, budget int, slower float64, n noise) score {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var s score
	next := make(chan uint64, sessions)
	for i := range sessions {
		next <- uint64(i)
	}
	close(next)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range next {
				r, rounds := measured(t, 1000*seed+uint64(100*slower), slower, budget, 6, 3, n)
				mu.Lock()
				s.add(r, rounds, slower)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return s
}

// TestVerdicts: sessions with a known effect get true verdicts, see [TestVerdictsSoak].
func TestVerdicts(t *testing.T) { simulate(t, 15, 20, []float64{0, 0.03}) }

// TestVerdictsSoak: 200 sessions of each effect: false verdicts in at most 5 % of the sessions, 3 % found in 80 %, and
// intervals that cover the truth in 93 to 97 %.
func TestVerdictsSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("200 sessions of each effect: set WATTLINE_SOAK=1")
	}
	simulate(t, 200, 40, []float64{0, 0.01, 0.02, 0.03, 0.05, 0.10})
}
