package attribution

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/gpu/sim"
	"wattline/meter"
)

// TestYield: while a predecessor measures the card too, and after a successor has taken over, requests are contended. After
// Yield there are no rows of power and ledger, which are the successor's.
func TestYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		card := &realCard{Source: sim.New(sim.Config{Clock: clock}), uuid: "TEST-" + t.Name()}
		predecessor, err := discover.AcquireAdvisoryLock(card.uuid)
		if err != nil {
			t.Fatal(err)
		}
		k := newKept()
		up := &upstream{pids: []int{os.Getpid()}}
		card.SetProcs(gpu.Process{PID: os.Getpid(), MemB: meter.Some(5 << 30)})
		p, err := Start(Config{
			Rows: k, Clock: clock, GPUs: []gpu.Source{card}, SysRoot: t.TempDir(), Slots: "off",
			Routes: []Route{{Name: "default", Local: true, Processes: up}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Observer(0).Synchronise(clock.Time(1), 1)
		play := func(seq uint64, id string, contended bool) {
			t.Helper()
			time.Sleep(35 * time.Second) // the idle draw is learnt
			exchange(p, card.Source, seq, id)
			time.Sleep(10 * time.Second)
			k.mu.Lock()
			defer k.mu.Unlock()
			if rec := k.settled[id]; rec == nil || (rec.EnergyQuality == meter.EnergyContended) != contended {
				t.Errorf("%s: %+v", id, rec)
			}
		}
		play(1, "beside the predecessor", true)
		if err := predecessor.Close(); err != nil {
			t.Fatal(err)
		}
		play(2, "alone", false)
		if !card.locked(t) {
			t.Error("the card is not locked after its predecessor has ended")
		}
		late, err := discover.AcquireAdvisoryLock(card.uuid + lateLock) // of a predecessor that serves a last request
		if err != nil {
			t.Fatal(err)
		}
		play(4, "beside a late request", true)
		if err := late.Close(); err != nil {
			t.Fatal(err)
		}
		p.Yield()
		time.Sleep(2 * time.Second)
		if card.locked(t) {
			t.Error("a process that has handed over keeps the device although nothing is in flight")
		}
		k.mu.Lock()
		power, ledger := len(k.power), len(k.ledger)
		k.mu.Unlock()
		play(3, "beside the successor", true)
		if power == 0 || len(k.power) != power || ledger == 0 || len(k.ledger) != ledger {
			t.Errorf("%d and %d rows of power, %d and %d of ledger before and after", power, len(k.power), ledger, len(k.ledger))
		}
		stopNow(t, p)
	})
}
