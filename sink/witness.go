package sink

import "wattline/meter"

// Witness is shown every row that is offered to a Queue, also those that the queue or the store will
// refuse, so that metrics and traces do not depend on a disk. Its methods are called by whoever offers,
// before the row is queued: they must not block, nor change the row.
type Witness interface {
	// Offered is shown a request that is over. Its energy is final unless its quality is pending.
	Offered(rec *meter.Record)
	// Settled is shown the whole row again once its energy is final.
	Settled(rec *meter.Record)
	Power(p *Power)
	Ledger(l *Ledger)
}

// nobody is the Witness of a Queue that was given none.
type nobody struct{}

func (nobody) Offered(*meter.Record) {}
func (nobody) Settled(*meter.Record) {}
func (nobody) Power(*Power)          {}
func (nobody) Ledger(*Ledger)        {}
