package sweep

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/replay"
)

// queue simulates requests at a rate in a server of some slots, each of which a request holds for a time that is drawn
// evenly around service; it returns how many had their slot within patience.
func queue(rng *rand.Rand, slots int, service, spread, rate, seconds, patience float64) (kept, of int) {
	free := make([]float64, slots)
	for at := 0.0; at < seconds; at += 1 / rate {
		first := 0
		for i := range free {
			if free[i] < free[first] {
				first = i
			}
		}
		start := max(at, free[first])
		free[first] = start + service*(1+spread*(2*rng.Float64()-1))
		of++
		if start-at <= patience {
			kept++
		}
	}
	return kept, of
}

// TestKnee: the knee of servers of known capacity, within 5 %, from a wrong guess too.
func TestKnee(t *testing.T) {
	for _, c := range []struct {
		slots           int
		service, spread float64
	}{{4, 0.1, 0}, {1, 0.4, 0.2}, {8, 2, 0.5}} {
		capacity := float64(c.slots) / c.service
		for _, guess := range []float64{1, 0.6, 3} {
			rng := rand.New(rand.NewPCG(1, uint64(c.slots)))
			tried := 0
			k, err := FindKnee(t.Context(), capacity*guess, func(_ context.Context, rate float64) (int, int, bool, error) {
				tried++
				// As ProbeTime has it: thirty times the objective.
				kept, of := queue(rng, c.slots, c.service, c.spread, rate, max(60*c.service, 80/rate), 2*c.service)
				return kept, of, true, nil
			})
			if err != nil || math.Abs(k.Rate.V/capacity-1) > 0.05 {
				t.Errorf("%+v, guess %g: %+v, want %g (%v)", c, guess, k, capacity, err)
			}
			if k.Low.Valid && k.Low.V > capacity*1.05 || k.High.Valid && k.High.V < capacity*0.95 || !k.High.Valid || tried != k.Probes || tried > 16 {
				t.Errorf("%+v, guess %g: %+v, capacity %g", c, guess, k, capacity)
			}
		}
	}
}

// TestNoKnee: objectives that are never or always kept, a budget that ends, an endpoint that fails.
func TestNoKnee(t *testing.T) {
	always := func(kept int) Probe {
		return func(context.Context, float64) (int, int, bool, error) { return kept, 100, true, nil }
	}
	if k, err := FindKnee(t.Context(), 10, always(0)); err != nil || k.Rate.Valid || !strings.Contains(k.Why, "not even") {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err := FindKnee(t.Context(), 10, always(100)); err != nil || !k.Rate.Valid || k.High.Valid || !strings.Contains(k.Why, "still keep") {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err := FindKnee(t.Context(), 10, func(context.Context, float64) (int, int, bool, error) { return 100, 100, false, nil }); err != nil || k.Probes != 1 || k.Rate.V != 5 || !strings.Contains(k.Why, "budget") {
		t.Errorf("%+v, %v", k, err)
	}
	broken := errors.New("broken")
	if _, err := FindKnee(t.Context(), 10, func(context.Context, float64) (int, int, bool, error) { return 0, 0, true, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestFree: a folder with a sweep, or a point of one that was broken off, is not written into.
func TestFree(t *testing.T) {
	for _, used := range []string{"sweep.json", "concurrency-2", "rate-01"} {
		dir := t.TempDir()
		if err := Free(dir); err != nil {
			t.Error(err)
		}
		if err := os.Mkdir(filepath.Join(dir, used), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Free(dir); err == nil || !strings.Contains(err.Error(), "holds a sweep already ("+used+")") {
			t.Error(used, err)
		}
	}
}

// TestMark: the Pareto points by hand.
func TestMark(t *testing.T) {
	p := func(tps, j float64) Point {
		return Point{TokensPerSecond: replay.Some(tps), JoulesPerToken: replay.Some(j)}
	}
	points := []Point{p(100, 2), p(150, 1), p(150, 1.2), p(200, 1.5), p(180, 1.6), {TokensPerSecond: replay.Some(900)}}
	Mark(points)
	for i, want := range []bool{false, true, false, true, false, false} {
		if points[i].Pareto != want {
			t.Errorf("point %d: %v", i, points[i].Pareto)
		}
	}
}

func TestParse(t *testing.T) {
	if p, err := Parse("concurrency=1,2, 8"); err != nil || len(p.Concurrency) != 3 || p.Concurrency[2] != 8 || p.Auto {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := Parse("rate=auto"); err != nil || !p.Auto {
		t.Errorf("%+v, %v", p, err)
	}
	for _, s := range []string{"", "rate=3", "concurrency=", "concurrency=0", "concurrency=2,2", "slots=4", "concurrency=a"} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

// TestProbeTime: long enough for the queue to pass the objective, for enough requests, and within the budget.
func TestProbeTime(t *testing.T) {
	o := []replay.Objective{{Metric: "ttft", MaxMs: 500}, {Metric: "tpot", MaxMs: 5000}}
	for _, c := range []struct {
		rate   float64
		budget time.Duration
		want   time.Duration
	}{{100, time.Hour, 15 * time.Second}, {1, time.Hour, 80 * time.Second}, {1, 80 * time.Second, 10 * time.Second}} {
		if got := ProbeTime(c.rate, o, c.budget); got != c.want {
			t.Errorf("%g a second: %s, want %s", c.rate, got, c.want)
		}
	}
}

// TestPrints: every form has every point; the curve has the Pareto points alone.
func TestPrints(t *testing.T) {
	r := &Result{Model: "<m>", What: "w", Points: []Point{
		{Concurrency: 4, Requests: 8, TokensPerSecond: replay.Some(222), JoulesPerToken: replay.Some(0.5)},
		{Concurrency: 1, Requests: 8, TokensPerSecond: replay.Some(111), JoulesPerToken: replay.Some(1.5), Failed: []string{"schedule"}},
	}, Knee: &Knee{Rate: replay.Some(3.33), Low: replay.Some(3.1), Probes: 7}}
	Mark(r.Points)
	var term, md strings.Builder
	r.Terminal(&term)
	if err := r.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	for form, s := range map[string]string{"terminal": term.String(), "Markdown": md.String(), "page": string(page)} {
		for _, want := range []string{"222", "111", "1 in flight", "knee: 3.33", "schedule"} {
			if !strings.Contains(s, want) {
				t.Errorf("%s lacks %q:\n%s", form, want, s)
			}
		}
		if strings.Index(s, "1 in flight") > strings.Index(s, "4 in flight") && form != "page" {
			t.Errorf("%s is not in the order of the load", form)
		}
	}
	if strings.Contains(string(page), "<m>") || strings.Count(string(page), `class="best"`) != 1 {
		t.Error("the page has markup of a name, or the wrong curve")
	}
}
