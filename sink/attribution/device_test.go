package attribution

import (
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
	"wattline/proxy"
)

// upstream is a fake upstream; tests change its processes.
type upstream struct {
	mu   sync.Mutex // guards the rest
	pids []int
	err  error
}

func (u *upstream) set(err error, pids ...int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pids, u.err = pids, err
}

func (u *upstream) PIDs() ([]int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.pids, u.err
}

func (u *upstream) Has(pid int) bool {
	pids, err := u.PIDs()
	return err == nil && processes(pids).Has(pid)
}

// exchange plays a stream of four seconds from now on through the first route's observer, on the pipeline's clock.
func exchange(p *Pipeline, card gpu.Activity, seq uint64, id string) {
	o, clock := p.observers[0], p.cfg.Clock
	step := func(e proxy.Event, phase meter.Phase) {
		e.Seq, e.At = seq, clock.Now()
		o.Observe(e)
		card.Observe(gpu.Event{At: e.At, Request: seq, Phase: phase, Slot: -1})
	}
	step(proxy.Event{Step: proxy.RequestSent, Bytes: 4000, Work: meter.Work{Streams: true, Computes: true}}, meter.PhaseWaiting)
	step(proxy.Event{Step: proxy.HeadersReceived, Status: 200}, meter.PhasePrefill)
	time.Sleep(time.Second)
	step(proxy.Event{Step: proxy.OutputReceived, Progress: meter.Progress{Outputs: 1, First: true}}, meter.PhaseDecode)
	for range 300 {
		time.Sleep(10 * time.Millisecond)
		o.Observe(proxy.Event{Seq: seq, At: clock.Now(), Step: proxy.OutputReceived, Progress: meter.Progress{Outputs: 1}})
	}
	at := clock.Now()
	card.Observe(gpu.Event{At: at, Request: seq, Phase: meter.PhaseDone, Slot: -1})
	o.Done(seq, at, &meter.Record{ID: id, Status: meter.Some(200), PromptTokens: meter.Some(900), OutputTokens: meter.Some(301)})
}

// TestContended: a process that is seen and is not the upstream's makes the requests of its time contended; one that cannot
// be told apart (it is of another PID namespace, or the upstream's own cannot be seen) does not.
func TestContended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, faults := gpu.NewClock(), sim.Healthy()
		card := sim.New(sim.Config{Clock: clock, Faults: &faults})
		up := &upstream{pids: []int{os.Getpid()}}
		k := newKept()
		p, err := Start(Config{
			Rows: k, Clock: clock, GPUs: []gpu.Source{card}, SysRoot: t.TempDir(), Slots: "off",
			Routes: []Route{{Name: "default", Local: true, Processes: up}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Observer(0).Synchronise(clock.Time(1), 1)
		own, other := gpu.Process{PID: os.Getpid(), MemB: meter.Some(5 << 30)}, gpu.Process{PID: os.Getppid(), MemB: meter.Some(1 << 30)}
		const elsewhere = 1 << 30 // no process of this machine
		play := func(seq uint64, id string, procs ...gpu.Process) {
			card.SetProcs(procs...)
			time.Sleep(35 * time.Second) // processes are listed every 30 s while nothing is in flight
			exchange(p, card, seq, id)
		}
		play(1, "alone", own)
		play(2, "beside", own, other)
		play(3, "alone again", own)
		play(4, "another namespace", own, gpu.Process{PID: elsewhere})
		up.set(errors.New("nobody listens there"))
		play(5, "upstream not seen", own)
		time.Sleep(10 * time.Second)
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		for _, r := range k.settled {
			want := "measured"
			if r.ID == "beside" {
				want = "contended"
			}
			if r.EnergyQuality != want {
				t.Errorf("the request %q is %s, want %s", r.ID, r.EnergyQuality, want)
			}
			if r.ID == "alone" && r.VRAMBytes != meter.Some(5<<30) {
				t.Errorf("the upstream's process holds 5 GiB, the row says %+v", r.VRAMBytes)
			}
		}
		if n := len(k.settled); n != 5 {
			t.Errorf("%d requests settled", n)
		}
		contended := 0
		for _, r := range k.power {
			if r.Contended == meter.Some(1) {
				contended++
			}
		}
		if contended < 10 || contended > 69 { // it was there for 39 s; processes are listed every 30 s while nothing is in flight
			t.Errorf("%d of %d seconds are contended", contended, len(k.power))
		}
	})
}
