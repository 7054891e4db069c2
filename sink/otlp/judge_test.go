package otlp_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// hold halves the rate until the machine holds it without tracing: a saturated one queues without bound,
// and its latencies say nothing of anybody.
func (l *load) hold(t *testing.T, addr string, strict bool) {
	t.Helper()
	slow, times, least := 10*time.Millisecond, 5, 100 // ten times what an exchange takes
	if !strict {
		slow, times, least = 50*time.Millisecond, 1, 25
	}
	asked := l.rate
	for {
		var tries []summary
		for range times {
			tries = append(tries, l.run(t, addr, l.phase))
		}
		if median(tries, p50) < slow {
			break
		}
		if l.rate/2 < least {
			if strict {
				t.Fatalf("this machine does not hold %d requests/s: %v", l.rate, tries)
			}
			break
		}
		l.rate /= 2
	}
	if l.rate < asked {
		t.Logf("%d requests/s are more than this machine holds now even without tracing: %d are sent", asked, l.rate)
	}
}

func p50(s summary) time.Duration { return s.p50 }
func p99(s summary) time.Duration { return s.p99 }
func cpu(s summary) time.Duration { return s.cpu }

// mostRounds bounds a run that is not strict: on a busy machine whole phases stand still, with tracing or
// without, so it goes on until one with tracing holds. What really waits for a collector does in each.
const mostRounds = 20

// holds is whether a phase with tracing was about as quick as those without.
func holds(a, b []summary) bool { return fastest(b) <= 5*median(a, p50)+50*time.Millisecond }

func fastest(s []summary) time.Duration {
	return slices.MinFunc(s, func(x, y summary) int { return cmp.Compare(x.p50, y.p50) }).p50
}

// judge compares the phases.
func judge(t *testing.T, a, b []summary, strict bool) {
	t.Helper()
	if !strict {
		if !holds(a, b) {
			t.Errorf("the median latency with tracing was never below %v, without it is %v", fastest(b), median(a, p50))
		}
		return
	}
	for _, of := range []struct {
		name string
		of   func(summary) time.Duration
	}{{"p50", p50}, {"p99", p99}} {
		effect, band := compared(a, b, of.of)
		off := median(a, of.of)
		t.Logf("%s: A %v, B %v; B less the A's beside it: median %v; A less the A's beside it: 97.5 %% of such medians are below %v",
			of.name, off, median(b, of.of), effect, band)
		// Making and encoding a trace does take some 40 us of CPU, which must show somewhere: a twentieth is allowed.
		if of.name == "p99" && effect > max(band, off/20) {
			t.Errorf("p99 with tracing is higher by %v: more than noise (%v)", effect, band)
		}
	}
	off, on := median(a, cpu), median(b, cpu)
	t.Logf("CPU a request, client and upstream included: A %v, B %v", off, on)
	if on > off+off/4 {
		t.Errorf("a traced request costs %v of CPU, another %v", on, off)
	}
}

// compared returns the median of what a B is above the two A's beside it, and how large that figure can be
// by noise alone: the same is done with each A and its neighbours, up and down, and the median of as many
// such differences as there are B's, drawn at random, is below band 97.5 times of 100. Slow changes of the
// machine cancel in both.
func compared(a, b []summary, of func(summary) time.Duration) (effect, band time.Duration) {
	var above, own []time.Duration
	for i := range b {
		above = append(above, of(b[i])-of(a[i]), of(b[i])-of(a[i+1]))
		own = append(own, of(a[i])-of(a[i+1]), of(a[i+1])-of(a[i]))
	}
	r := rand.New(rand.NewPCG(8, 11))
	medians := make([]time.Duration, 1000)
	for i := range medians {
		drawn := make([]time.Duration, len(b))
		for j := range drawn {
			drawn[j] = own[r.IntN(len(own))]
		}
		medians[i] = middle(drawn)
	}
	slices.Sort(medians)
	return middle(above), medians[len(medians)*975/1000]
}

func median(s []summary, of func(summary) time.Duration) time.Duration {
	v := make([]time.Duration, len(s))
	for i := range s {
		v[i] = of(s[i])
	}
	return middle(v)
}

// middle is the median of v, which it sorts.
func middle(v []time.Duration) time.Duration {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// The comparison finds a difference as large as a phase's own noise, and, but for the rate of false alarms
// that its band allows, none where none is; also on a machine that slows down meanwhile.
func TestComparedTellsEffectFromNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	phases := func(n int, more time.Duration) (out []summary) {
		for i := range n {
			drift := time.Duration(i) * 20 * time.Microsecond
			out = append(out, summary{p99: 2*time.Millisecond + drift + more + time.Duration(r.ExpFloat64()*float64(time.Millisecond))})
		}
		return out
	}
	alarms, found := 0, 0
	const runs = 100
	for range runs {
		if effect, band := compared(phases(38, 0), phases(37, 0), p99); effect > band {
			alarms++
		}
		if effect, band := compared(phases(38, 0), phases(37, time.Millisecond), p99); effect > band {
			found++
		}
	}
	t.Logf("false alarms: %d of %d; found: %d of %d", alarms, runs, found, runs)
	if alarms > runs/8 || found < runs*9/10 {
		t.Errorf("of %d runs without a difference %d are said to have one, of %d with one of the noise's size %d", runs, alarms, runs, found)
	}
}
