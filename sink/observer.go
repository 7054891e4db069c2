package sink

import "wattline/meter"

// Observer receives every row offered to a Queue, also rows that the queue or the store refuse, so that metrics and traces
// do not depend on a disk. Its methods run on the caller's goroutine before the row is queued: they must neither block nor
// change the row.
type Observer interface {
	// Offered receives the row of a finished request. Its energy is final unless its quality is pending.
	Offered(rec *meter.Record)
	// Settled receives the whole row again once its energy is final.
	Settled(rec *meter.Record)
	Power(p *Power)
	Ledger(l *Ledger)
}

// NopObserver ignores everything. Embed it in an observer that needs only some of the methods.
type NopObserver struct{}

// Offered ignores a request that is over.
func (NopObserver) Offered(*meter.Record) {}

// Settled ignores a row with final energy.
func (NopObserver) Settled(*meter.Record) {}

// Power ignores a row of table power.
func (NopObserver) Power(*Power) {}

// Ledger ignores a row of table ledger.
func (NopObserver) Ledger(*Ledger) {}
