package recording

import (
	"compress/gzip"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"wattline/gpu"
	"wattline/meter/energy"
)

// h100 is a recording of a real H100 (its README says how it was made).
const h100 = "../../../gpu/testdata/h100"

// recording is a folder's content.
type recording struct {
	*Traffic
	Device
}

func read(t testing.TB) *recording { return readDir(t, h100) }

func readDir(t testing.TB, dir string) *recording {
	t.Helper()
	rec, err := gpu.ReadRecording(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir + "/requests.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	traffic, err := ReadRequests(z)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{Traffic: traffic}
	for _, k := range rec.Reads {
		r.Readings = append(r.Readings, Reading{
			Before: k.Before, After: k.After, Lo: k.Lo, Hi: k.Hi, EnergyUJ: k.Uj, HasEnergy: k.OK,
			AverageMW: k.AverageMw.V, HasAverage: k.AverageMw.Valid, TempC: k.TempC.V, HasTemp: k.TempC.Valid,
			Contended: k.Contended.V == 1, HasContended: k.Contended.Valid, Lost: k.Lost,
		})
	}
	for _, p := range rec.Buffer {
		r.Samples = append(r.Samples, Sample{At: p.At, MW: p.Mw})
	}
	return r
}

// attribute feeds the recording to a fresh ledger and returns the results by position.
func attribute(t testing.TB, r *recording, s Sources, fetch time.Duration) ([]energy.Result, *energy.Ledger) {
	t.Helper()
	l := energy.New(r.Config(s))
	Feed(l, l.AddUpstream(energy.Coefficients{}, false), &r.Device, r.Requests, fetch, nil)
	got := make([]energy.Result, len(r.Requests))
	for x, ok := l.Next(); ok; x, ok = l.Next() {
		got[x.Request-1] = x
	}
	b := l.Balance()
	if sum := b.Phase + b.Idle + b.Residual; sum != b.Counter || b.Pools+b.Pending != 0 {
		t.Fatalf("the sums are not exact: %+v", b)
	}
	return got, l
}

// lone is the counter's energy of a request alone: from its start to 0.3 s after its end, less the idle
// draw of that 0.3 s. The counter ticks every 100 ms only, so the span is widened to whole ticks and the
// idle draw of what was added is taken off too: nothing else ran there.
func (r *recording) lone(q *Request, idleWatts float64) float64 {
	c := newCurve(r.Readings)
	at, joules := c.at, c.j
	a, b := 0, 0
	for k := range at {
		if at[k] <= q.Send {
			a = k
		}
		if at[k] <= q.End+3e8 {
			b = k
		}
	}
	seconds := float64(at[b]-at[a]-(q.End-q.Send)) / 1e9
	return joules[b] - joules[a] - idleWatts*seconds
}

// idleWatts is the mean power of the recording's idle phase, a second after it began.
func (r *recording) idleWatts() float64 {
	return newCurve(r.Readings).mean(r.Marks[0].At+1e9, r.Marks[1].At)
}

func TestLoneRequests(t *testing.T) {
	r := read(t)
	idle := r.idleWatts()
	for _, s := range []struct {
		name    string
		sources Sources
		within  float64 // of each
		rms     float64
	}{{"ring", Best, 0.02, 0.0025}, {"counter only", CounterOnly, 0.02, 0.0012}, {"1 s average only", AverageOnly, 0.03, 0.008}} {
		t.Run(s.name, func(t *testing.T) {
			got, _ := attribute(t, r, s.sources, time.Second)
			var square, n float64
			for i, q := range r.Requests {
				if !strings.HasPrefix(q.Tag, "serial") {
					continue
				}
				want := r.lone(&q, idle)
				have := float64(got[i].TotalUJ) / 1e6
				off := have/want - 1
				square, n = square+off*off, n+1
				t.Logf("%-14s counter %7.1f J, ledger %7.1f J ± %.1f, off %+.2f %%, %v", q.Tag, want, have,
					float64(got[i].SigmaUJ)/1e6, off*100, got[i].Quality)
				if math.Abs(off) > s.within {
					t.Errorf("request %d (%s) is off by %.1f %%", i, q.Tag, off*100)
				}
				if got[i].Quality == energy.Measured && got[i].SigmaUJ*20 > got[i].TotalUJ {
					t.Errorf("request %d is called measured with a sigma of %d of %d uJ", i, got[i].SigmaUJ, got[i].TotalUJ)
				}
			}
			if rms := math.Sqrt(square / n); rms > s.rms {
				t.Errorf("rms error %.2f %%, want at most %.2f %%", 100*rms, 100*s.rms)
			}
		})
	}
}

func TestTwins(t *testing.T) {
	r := read(t)
	for _, s := range []Sources{Best, CounterOnly, AverageOnly} {
		got, _ := attribute(t, r, s, time.Second)
		for _, tag := range []string{"conc2", "conc4"} {
			lo, hi := math.Inf(1), math.Inf(-1)
			for i, q := range r.Requests {
				if q.Tag == tag {
					lo, hi = min(lo, float64(got[i].TotalUJ)), max(hi, float64(got[i].TotalUJ))
				}
			}
			if !(hi > 0) || hi/lo > 1.02 {
				t.Errorf("sources %d: %s twins cost from %.1f to %.1f J", s, tag, lo/1e6, hi/1e6)
			}
		}
	}
}

// In line, samples come in batches of a second and more; offline, each at its own time.
func TestInLineEqualsOffline(t *testing.T) {
	r := read(t)
	for _, s := range []Sources{Best, CounterOnly, AverageOnly} {
		want, wl := attribute(t, r, s, 0)
		for _, fetch := range []time.Duration{100 * time.Millisecond, time.Second, 2300 * time.Millisecond} {
			got, gl := attribute(t, r, s, fetch)
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("sources %d, fetched every %v: request %d differs:\n%+v\n%+v", s, fetch, i, got[i], want[i])
				}
			}
			if gl.Balance() != wl.Balance() || gl.Coefficients(0) != wl.Coefficients(0) || gl.Baseline() != wl.Baseline() {
				t.Errorf("sources %d, fetched every %v: the ledgers differ", s, fetch)
			}
		}
	}
}

// A result comes soon after its request's end: the ring is fetched once a second, and its scale is taken
// from a counter reading a second or two apart.
func TestResultDelay(t *testing.T) {
	r := read(t)
	for _, s := range []struct {
		sources Sources
		within  time.Duration
	}{{Best, 4 * time.Second}, {CounterOnly, time.Second}, {AverageOnly, 2 * time.Second}} {
		l := energy.New(r.Config(s.sources))
		var longest time.Duration
		n := 0
		Feed(l, l.AddUpstream(energy.Coefficients{}, false), &r.Device, r.Requests, time.Second, func(at int64) {
			for x, ok := l.Next(); ok; x, ok = l.Next() {
				longest = max(longest, time.Duration(at-r.Requests[x.Request-1].End))
				n++
			}
		})
		t.Logf("sources %d: the slowest of %d results came %.2f s after its request's end", s.sources, n, longest.Seconds())
		if longest > s.within || n < len(r.Requests)-4 { // the last ones may come with Close
			t.Errorf("sources %d: %d of %d results came in line, the slowest after %v", s.sources, n, len(r.Requests), longest)
		}
	}
}

// Learnt from nothing on the recording, the coefficients equal those measured on the card by other means: 34 mJ and
// 5 mJ per 1k of position for a prompt token, 0.44 J a step, 0.32 J a token, 37 mJ per 1k of context.
func TestLearntCoefficients(t *testing.T) {
	r := read(t)
	for _, s := range []Sources{Best, CounterOnly} {
		_, l := attribute(t, r, s, time.Second)
		c := l.Coefficients(0)
		t.Logf("sources %d: a %.1f mJ, b %.1f mJ, e0 %.3f J, c %.3f J, k %.1f mJ, rho %.3f; idle %.1f W at %.0f C, %+.2f W per C",
			s, c.PrefillUJ/1e3, c.PositionUJ/1e3, c.StepUJ/1e6, c.TokenUJ/1e6, c.ContextUJ/1e3, c.Rho,
			l.Baseline().BaseMW/1e3, l.Baseline().RefC, l.Baseline().SlopeMW/1e3)
		for _, x := range []struct {
			name             string
			have, want, part float64
		}{
			{"a", c.PrefillUJ, 34_000, 0.1}, {"b", c.PositionUJ, 5_000, 0.2}, {"e0", c.StepUJ, 440_000, 0.1},
			{"c", c.TokenUJ, 320_000, 0.1}, {"k", c.ContextUJ, 37_000, 0.1}, {"idle", l.Baseline().BaseMW, 121_000, 0.01},
		} {
			if math.Abs(x.have/x.want-1) > x.part {
				t.Errorf("sources %d: %s is %.0f, want %.0f within %.0f %%", s, x.name, x.have, x.want, 100*x.part)
			}
		}
	}
}
