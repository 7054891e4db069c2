package sink

import (
	"context"

	"wattline/meter"
)

// Rows is what the queue holds and what a store writes in one transaction.
type Rows struct {
	// Requests are new rows. One whose EnergyQuality is pending waits for Settled; any other is final.
	Requests []*meter.Record
	// Settled are rows, already among Requests of this or an earlier call, whose energy columns are final.
	Settled []*meter.Record
	Power   []*Power
	Ledger  []*Ledger
	Configs []*ServerConfig
	Gaps    []*Gaps
}

// Len counts the rows of all kinds.
func (r *Rows) Len() int {
	return len(r.Requests) + len(r.Settled) + len(r.Power) + len(r.Ledger) + len(r.Configs) + len(r.Gaps)
}

// Store keeps rows. Write commits all of them or none; writing the same rows again changes nothing.
// An error that has a method Retryable() bool returning true (disk full, file locked) may pass: the
// queue keeps the rows and tries again. Any other error gives them up.
type Store interface {
	Write(ctx context.Context, rows *Rows) error
}
