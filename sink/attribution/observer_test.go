package attribution

import (
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
)

// TestRefused: a status that says that the server turned the request away before it computed. An unstreamed 500 may be the
// end of work that failed.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		status  int64
		streams bool
		want    bool
	}{{200, true, false}, {400, true, true}, {400, false, true}, {500, true, true}, {500, false, false}, {501, false, true}, {503, false, true}} {
		if got := refused(&meter.Record{Status: meter.Some(c.status)}, c.streams); got != c.want {
			t.Errorf("status %d, streams %v: refused is %v", c.status, c.streams, got)
		}
	}
}

// TestSumOfErrors: the devices' errors go together.
func TestSumOfErrors(t *testing.T) {
	sum := sumResults([]energy.Result{
		{TotalUJ: 100, SigmaUJ: 3, ActiveSigmaUJ: 6, Quality: energy.Measured, Split: true},
		{TotalUJ: 200, SigmaUJ: 4, ActiveSigmaUJ: 8, Quality: energy.Partial, Split: true},
	})
	if sum.TotalUJ != 300 || sum.SigmaUJ != 7 || sum.ActiveSigmaUJ != 14 || sum.Quality != energy.Partial || !sum.Split {
		t.Errorf("%+v", sum)
	}
}

// TestLedgerRowDifferences: the rows of table ledger together are the counter's delta, each second once.
func TestLedgerRowDifferences(t *testing.T) {
	k := bubble(t, []string{"GPU-0"}, func(s *settler, _ func() int64) {
		p := plant{idle: 100_000}
		var uj int64
		for at := sec(1); at <= sec(20); at += sec(1) {
			r := &reading{Source: "test", At: at}
			for x := at - sec(1) + sec(0.1); x <= at; x += sec(0.1) {
				uj += p.mw(x) * 100
				r.Samples = append(r.Samples, sample{x, p.mw(x)})
				r.Ticks = append(r.Ticks, tick{Before: x, After: x, UJ: uj})
			}
			s.add(0, r)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Second)
	})
	var sum int64
	for _, l := range k.ledger {
		sum += l.CounterUj.V
	}
	if len(k.ledger) < 5 || sum < 19*100_000_000*98/100 || sum > 20*100_000_000 {
		t.Errorf("%d rows say %d uJ, the device drew %d", len(k.ledger), sum, 20*100_000_000)
	}
}
