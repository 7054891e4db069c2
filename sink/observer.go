package sink

import "wattline/meter"

// Observer is shown every row that is offered to a Queue, also those that the queue or the store will
// refuse, so that metrics and traces do not depend on a disk. Its methods are called by whoever offers,
// before the row is queued: they must not block, nor change the row.
type Observer interface {
	// Offered is shown a request that is over. Its energy is final unless its quality is pending.
	Offered(rec *meter.Record)
	// Settled is shown the whole row again once its energy is final.
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
