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

// nopObserver is the Observer of a Queue that was given none.
type nopObserver struct{}

func (nopObserver) Offered(*meter.Record) {}
func (nopObserver) Settled(*meter.Record) {}
func (nopObserver) Power(*Power)          {}
func (nopObserver) Ledger(*Ledger)        {}
