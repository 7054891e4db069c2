package sink

import (
	"time"

	"wattline/meter"
)

// Ledger is one settled window of one device's energy ledger. In every row, exactly:
//
//	counter_uj = requests_active_uj + requests_idle_uj + pools_uj + idle_uj + residual_uj
//
// A request's joules are booked in the window they were drawn in; those held back for a pool of
// overlapping prefills enter pools_uj as they are drawn and leave it, negative, when they are divided.
type Ledger struct {
	At               time.Time // start of the window, UTC
	Instance         string
	Device           string
	SpanUs           meter.Int
	CounterUj        meter.Int
	RequestsActiveUj meter.Int
	RequestsIdleUj   meter.Int
	PoolsUj          meter.Int
	IdleUj           meter.Int
	ResidualUj       meter.Int
	IdleSigmaUj      meter.Int
	Source           string
}

// LedgerColumns returns the columns of table ledger in their canonical order.
func LedgerColumns() []Column[Ledger] {
	return []Column[Ledger]{
		{1, "at", "", "start of the window (UTC)", func(l *Ledger) any { return &l.At }},
		{1, "instance", "", "the wattline that measured it", func(l *Ledger) any { return &l.Instance }},
		{1, "device", "", "device, named as in gpu_devices", func(l *Ledger) any { return &l.Device }},
		{1, "span_us", "us", "length of the window; 60 s once thinned", func(l *Ledger) any { return &l.SpanUs }},
		{1, "counter_uj", "uJ", "what the energy counter advanced by", func(l *Ledger) any { return &l.CounterUj }},
		{1, "requests_active_uj", "uJ", "active joules given to requests", func(l *Ledger) any { return &l.RequestsActiveUj }},
		{1, "requests_idle_uj", "uJ", "idle share given to requests", func(l *Ledger) any { return &l.RequestsIdleUj }},
		{1, "pools_uj", "uJ", "joules that entered (+) or left (-) pools of overlapping prefills", func(l *Ledger) any { return &l.PoolsUj }},
		{1, "idle_uj", "uJ", "idle draw with nothing in flight", func(l *Ledger) any { return &l.IdleUj }},
		{1, "residual_uj", "uJ", "what nobody is charged for: cool-down, other processes, outside the model", func(l *Ledger) any { return &l.ResidualUj }},
		{1, "idle_sigma_uj", "uJ", "standard error of idle_uj", func(l *Ledger) any { return &l.IdleSigmaUj }},
		{1, "source", "", "energy source behind the row", func(l *Ledger) any { return &l.Source }},
	}
}
