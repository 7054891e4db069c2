package gpu_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// gate is a source that can hold back all reads: nothing reaches the driver then, as if nothing
// were sampled, and when it opens the sampler goes on with all that it has learnt.
type gate struct {
	gpu.Source

	mu   sync.Mutex // guards open
	open chan struct{}
}

func newGate(src gpu.Source) *gate {
	g := &gate{Source: src, open: make(chan struct{})}
	close(g.open)
	return g
}

// set opens or closes it.
func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if !open {
			g.open = make(chan struct{})
		}
	default:
		if open {
			close(g.open)
		}
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

// Open implements gpu.Source.
func (g *gate) Open(uuid string) (gpu.Device, error) {
	d, err := g.Source.Open(uuid)
	return &gated{d, g}, err
}

type gated struct {
	gpu.Device
	g *gate
}

func (d *gated) Read(w gpu.Metrics, r *gpu.Reading) error {
	d.g.pass()
	return d.Device.Read(w, r)
}

// span is an estimate in percent with its 95 % bounds.
type span struct{ median, lo, hi float64 }

func (s span) String() string { return fmt.Sprintf("%.3f (%.3f to %.3f)", s.median, s.lo, s.hi) }

// spanOf is the median of values, with bounds by the percentile bootstrap.
func spanOf(values []float64) span {
	mid := func(v []float64) float64 {
		slices.Sort(v)
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	r := rand.New(rand.NewPCG(1, 1))
	draw, all := make([]float64, len(values)), make([]float64, 2000)
	for i := range all {
		for j := range draw {
			draw[j] = values[r.IntN(len(values))]
		}
		all[i] = mid(draw)
	}
	slices.Sort(all)
	return span{mid(slices.Clone(values)), all[len(all)/40], all[len(all)-1-len(all)/40]}
}

// pulse is when streams' tokens came.
type pulse struct {
	mu   sync.Mutex // guards the rest
	from int64      // tokens before it do not count
	last []int64    // by stream; 0: none
	sum  int64      // of gaps, ns
	n    int64
}

func (p *pulse) token(stream int, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.last[stream]; was >= p.from && was > 0 && at > was {
		p.sum += at - was
		p.n++
	}
	p.last[stream] = at
}

// begin starts to count at a moment; gap is the mean gap since.
func (p *pulse) begin(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.sum, p.n = at, 0, 0
}

func (p *pulse) gap() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(p.sum) / float64(p.n)
}

// verifyCost has n streams run through many short spells, with sampling and without, in pairs in random order,
// and returns how many percent of the tokens sampling costs. The streams and the sampler go on all the time, so that
// neither a start nor a probe is part of it; what changes slowly meets both, and what jumps from one level to another
// leaves the median of the pairs where it is. Calls that were due meanwhile are made up for: the figure is too high
// rather than too low.
func verifyCost(t *testing.T, b *bench, n int, each time.Duration, pairs int) span {
	t.Helper()
	g := newGate(b.target.Source)
	target := b.target
	target.Source = g
	s, err := gpu.Start(gpu.Config{Clock: b.clock, Targets: []gpu.Target{target}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &pulse{last: make([]int64, n)}
	var wg sync.WaitGroup
	wg.Go(func() { b.streams(ctx, s, n, p.token) })
	time.Sleep(12 * time.Second)     // past the probe and the first lags
	spell := func(on bool) float64 { // what became due while nothing was asked comes at its start: it counts, and too much
		p.begin(b.clock.Now())
		g.set(on)
		time.Sleep(each)
		return p.gap()
	}
	coin := rand.New(rand.NewPCG(uint64(b.clock.Now()), 1))
	var lost, with, without []float64
	began := s.States()[0]
	for range pairs {
		first := coin.IntN(2) == 0
		a, z := spell(first), spell(!first)
		if !first {
			a, z = z, a
		}
		with, without = append(with, a/1e6), append(without, z/1e6)
		lost = append(lost, 100*(1-z/a))
	}
	ended := s.States()[0]
	g.set(true)
	cancel()
	wg.Wait()
	s.Stop()
	var silent []int // pairs in which a spell had no token
	for i, l := range lost {
		if math.IsNaN(l) {
			silent = append(silent, i)
		}
	}
	if len(silent) > 0 {
		t.Fatalf("no tokens came in a spell of the pairs %v of %d", silent, pairs)
	}
	out := spanOf(lost)
	t.Logf("%d streams, %d pairs of %v: a token every %v ms with sampling, %v without; sampling costs %v %% of the tokens", n, pairs, each, spanOf(with), spanOf(without), out)
	t.Logf("meanwhile: %d reads of the counter in %.0f s, the gate open for half of them; %.3f %% of one core", ended.Calls["energy"].Count-began.Calls["energy"].Count, float64(ended.WallNs-began.WallNs)/1e9, share(began, ended))
	return out
}

// delays is a source where each read of the counter holds up what the card does.
type delays struct {
	gpu.Source
	by   time.Duration
	mu   sync.Mutex // guards owed
	owed time.Duration
}

func (d *delays) Open(uuid string) (gpu.Device, error) {
	dev, err := d.Source.Open(uuid)
	return &delaying{dev, d}, err
}

type delaying struct {
	gpu.Device
	d *delays
}

func (d *delaying) Read(w gpu.Metrics, r *gpu.Reading) error {
	if w&gpu.MetricEnergy != 0 {
		d.d.mu.Lock()
		d.d.owed += d.d.by
		d.d.mu.Unlock()
	}
	return d.Device.Read(w, r)
}

// take returns the delay of the next step.
func (d *delays) take() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	owed := d.owed
	d.owed = 0
	return owed
}

// TestCostMeasurement rehearses verifyCost: streams with two levels of speed 30 % apart, with noise and drift, beside
// a sampler with reads that hold the card up by nothing or by 20 ms. It distinguishes 2 % from none within half a percent.
func TestCostMeasurement(t *testing.T) {
	run := func(by time.Duration) (lost span) {
		synctest.Test(t, func(t *testing.T) {
			clock := gpu.NewClock()
			d := &delays{Source: sim.New(sim.Config{Clock: clock}), by: by}
			list, err := d.List()
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			b := &bench{clock: clock, target: gpu.Target{Source: d, Info: list[0]}}
			b.streams = func(ctx context.Context, tell gpu.Activity, n int, token func(int, int64)) {
				tell.Observe(gpu.Event{At: clock.Now(), Request: 1, Phase: meter.PhaseDecode})
				level, until := 1.0, int64(0)
				for began := clock.Now(); ctx.Err() == nil; {
					now := clock.Now()
					if now > until {
						level, until = 1, now+3e9+r.Int64N(9e9)
						if r.IntN(3) == 0 {
							level = 1.3
						}
					}
					step := 6.8e6 * level * (1 + float64(now-began)/1e12) * (1 + 0.05*r.ExpFloat64())
					time.Sleep(time.Duration(step) + d.take())
					for i := range n {
						token(i, clock.Now())
					}
				}
			}
			lost = verifyCost(t, b, 4, 2*time.Second, 40)
		})
		return lost
	}
	if free := run(0); free.lo > 0 || free.hi < 0 || free.hi > 0.5 {
		t.Errorf("a sampler that costs nothing: %v %%", free)
	}
	if dear := run(20 * time.Millisecond); dear.lo < 0.8 || dear.hi > 4 || dear.hi-dear.lo > 1.5 {
		t.Errorf("a sampler that costs 2 %%: %v %%", dear)
	}
}
