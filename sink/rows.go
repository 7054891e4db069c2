package sink

import (
	"context"

	"wattline/meter"
)

// Rows are the queue's rows, or those that a store writes in one transaction.
type Rows struct {
	// Requests are new rows. A row with EnergyQuality pending waits for Settled; any other is final.
	Requests []*meter.Record
	// Settled are rows, already among Requests of this or an earlier call, with final energy columns.
	Settled []*meter.Record
	Power   []*Power
	Ledger  []*Ledger
	Configs []*ServerConfig
	Gaps    []*Gaps
	Prompts []*Prompt
}

// Len counts the rows of all kinds.
func (r *Rows) Len() int {
	return len(r.Requests) + len(r.Settled) + len(r.Power) + len(r.Ledger) + len(r.Configs) + len(r.Gaps) + len(r.Prompts)
}

// Store keeps rows. Write commits all of them or none; writing the same rows again changes nothing.
// If the error has a method Retryable() bool that returns true (disk full, file locked), the queue keeps the rows and tries
// again. After any other error the rows are lost.
type Store interface {
	Write(ctx context.Context, rows *Rows) error
}
