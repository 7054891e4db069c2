package sink_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"wattline/meter"
	"wattline/sink"
)

// seen is a Observer that keeps what it was shown. A Queue shows rows on the goroutine that offers them.
type seen []string

func (s *seen) Offered(r *meter.Record) { *s = append(*s, "offered "+r.ID) }
func (s *seen) Settled(r *meter.Record) { *s = append(*s, "settled "+r.ID) }
func (s *seen) Power(p *sink.Power)     { *s = append(*s, "power "+p.Device) }
func (s *seen) Ledger(l *sink.Ledger)   { *s = append(*s, "ledger "+l.Device) }

// A Observer is shown every row at once, whatever becomes of it.
func TestObserverSeesRefusedRows(t *testing.T) {
	var got seen
	st := &fakeStore{write: func() error { return errors.New("no") }}
	q := sink.New(sink.Config{Store: st, Capacity: 1, Observer: &got})
	q.Offer(row("1"))
	q.Offer(row("2")) // no room, if the writer has not taken the first
	q.Settle(row("1"))
	q.OfferPower(&sink.Power{Device: "GPU-0"})
	q.OfferLedger(&sink.Ledger{Device: "GPU-0"})
	want := []string{"offered 1", "offered 2", "settled 1", "power GPU-0", "ledger GPU-0"}
	if !slices.Equal(got, want) {
		t.Errorf("the observer saw %q, not %q", got, want)
	}
	if err := q.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
