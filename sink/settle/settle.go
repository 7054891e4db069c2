// Package settle brings finished requests and their joules together: a row goes into the queue the
// moment its request has ended, and again, with its energy columns filled, once these are final.
//
// A Settler without an energy source has nothing to wait for: it marks each row unavailable and the row
// is final at once.
package settle

import "wattline/meter"

// Rows is where rows go; *sink.Queue satisfies it.
type Rows interface {
	Offer(rec *meter.Record) bool
	Settle(rec *meter.Record) bool
}

// Config configures a Settler.
type Config struct {
	Rows Rows
}

// Settler hands finished requests on.
type Settler struct {
	rows Rows
}

// New returns a Settler.
func New(cfg Config) *Settler { return &Settler{rows: cfg.Rows} }

// Done takes a finished request's row, which belongs to the Settler from then on. It never blocks.
func (s *Settler) Done(rec *meter.Record) {
	if rec.EnergyQuality == "" {
		rec.EnergyQuality = meter.EnergyUnavailable
	}
	s.rows.Offer(rec) // a full queue counts what it drops
}
