package attribution

import (
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
)

// deviceLedger is a device's ledger and what is known of the device now. The settler's goroutine owns it.
type deviceLedger struct {
	index     int
	name      string
	cfg       *settlerConfig
	source    string
	channel   string // the last one that energySource was asked for, and its answer
	answer    string
	processor bool
	models    []string                     // by upstream: the model whose coefficients the ledger learns; "" not known yet
	ledger    *energy.Ledger               // nil until the first reading shows what the device can tell
	last      energy.Balance               // of the last row for table ledger
	lastAt    int64                        // when that was written
	dropped   atomic.Int64                 // events that did not fit into the settler's buffer
	stats     atomic.Pointer[energy.Stats] // the ledger's, after the last pass; nil before
	idleMw    atomic.Int64                 // the loaded-idle draw, after the last pass; 0: nothing is known

	tempC, memB, limitMw meter.Int
	others               bool // another process computes there
}

// maxUpstreams is how many servers of one device a ledger tells apart.
const maxUpstreams = energy.MaxUpstreams

// open makes the ledger that fits the device's first reading.
func (d *deviceLedger) open(r *reading) {
	d.source = r.Source
	with := opening{
		Config:       energy.Config{Shape: r.Shape, NoCounter: len(r.Ticks) == 0, Average: r.Average},
		Coefficients: make([]energy.Coefficients, maxUpstreams),
	}
	var at time.Time
	for i, up := range d.cfg.Upstreams {
		l, ok := d.cfg.Memory.Last(d.name, up)
		if !ok || i >= maxUpstreams {
			continue
		}
		with.Coefficients[i], d.models[i] = l.Coefficients, l.Model
		if l.At.After(at) {
			with.Config.Baseline, at = l.Baseline, l.At
		}
	}
	d.ledger = newLedger(with.Config, with.Coefficients)
	if d.cfg.Opened != nil {
		d.cfg.Opened(d.index, with)
	}
}

// newLedger makes a device's ledger, in line and offline. It keeps maxUpstreams servers apart; their coefficients may be
// known from before.
func newLedger(cfg energy.Config, known []energy.Coefficients) *energy.Ledger {
	l := energy.New(cfg)
	for i := range maxUpstreams {
		var c energy.Coefficients
		if i < len(known) {
			c = known[i]
		}
		l.AddUpstream(c, false)
	}
	return l
}

// setModel notes which model an upstream serves. A model that was seen before gets its own coefficients back; a new one
// begins with those of the model before it.
func (d *deviceLedger) setModel(upstream int, model string) {
	upstream = min(upstream, maxUpstreams-1)
	if model == "" || d.ledger == nil || d.models[upstream] == model {
		return
	}
	d.keep(upstream)
	if l, ok := d.cfg.Memory.Recall(d.name, model); ok {
		d.ledger.SetCoefficients(upstream, l.Coefficients)
	}
	d.models[upstream] = model
}

// keep puts what has been learnt of an upstream's model into the memory.
func (d *deviceLedger) keep(upstream int) {
	c := d.ledger.Coefficients(upstream)
	if d.models[upstream] == "" || c.Decode+c.Prefill == 0 {
		return
	}
	l := Learnt{Device: d.name, Model: d.models[upstream], At: d.cfg.Wall(d.cfg.Now()).UTC(), Coefficients: c, Baseline: d.ledger.Baseline()}
	if upstream < len(d.cfg.Upstreams) {
		l.Upstream = d.cfg.Upstreams[upstream]
	}
	d.cfg.Memory.Keep(l)
}

// read feeds a reading to the ledger.
func (d *deviceLedger) read(r *reading) {
	if d.ledger == nil {
		if len(r.Ticks) == 0 && len(r.Samples) == 0 {
			return
		}
		d.open(r)
	}
	if r.Lost {
		d.ledger.Event(energy.Event{Kind: energy.Lost, At: r.At})
	}
	for i, j := 0, 0; i < len(r.Ticks) || j < len(r.Samples); {
		if j == len(r.Samples) || i < len(r.Ticks) && r.Ticks[i].After <= r.Samples[j].At {
			t := r.Ticks[i]
			d.ledger.Tick(t.Before, t.After, t.Lo, t.Hi, t.UJ)
			i++
			continue
		}
		d.ledger.Power(r.Samples[j].At, r.Samples[j].MW)
		j++
	}
	d.setGauges(r)
}

// setGauges keeps gauges, and passes on to the ledger those that matter to it.
func (d *deviceLedger) setGauges(r *reading) {
	if r.MemB.Valid {
		d.memB = r.MemB
	}
	if r.LimitMw.Valid {
		d.limitMw = r.LimitMw
	}
	if r.TempC.Valid && r.TempC != d.tempC {
		d.tempC = r.TempC
		d.ledger.Event(energy.Event{Kind: energy.Temperature, At: r.At, MilliC: r.TempC.V * 1000})
	}
	if r.Others.Valid && (r.Others.V == 1) != d.others {
		d.others = !d.others
		d.ledger.Event(energy.Event{Kind: energy.Contended, At: r.At, On: d.others})
	}
}

// publishStats makes the ledger's counters visible to /metrics, and logs the first time that a limit was reached. Late and
// unknown events are only counted: a busy machine has some.
func (d *deviceLedger) publishStats() {
	if b := d.ledger.Baseline(); b.Windows > 0 {
		warmer := 0.0
		if d.tempC.Valid {
			warmer = float64(d.tempC.V) - b.RefC
		}
		d.idleMw.Store(max(0, int64(b.BaseMW+b.SlopeMW*warmer)))
	}
	now := d.ledger.Stats()
	was := d.stats.Load()
	if was == nil {
		was = &energy.Stats{}
	} else if *was == now {
		return
	}
	d.stats.Store(&now)
	for _, c := range []struct {
		was, now int64
		message  string
	}{
		{was.UnqueuedDecodes, now.UnqueuedDecodes, "too many tokens at once for the energy ledger: it ignores some"},
		{was.ForgottenPrefills, now.ForgottenPrefills, "too many prefills wait for their energy: the oldest are forgotten"},
		{was.EarlyAverageCells, now.EarlyAverageCells, "the device is read too often for its averaging time: energy is placed less exactly"},
		{was.UpstreamsOverLimit, now.UpstreamsOverLimit, "the energy ledger tells a limited number of upstreams apart: further ones count as the last"},
	} {
		if c.was == 0 && c.now > 0 {
			d.cfg.Log.Warn(c.message, "device", d.name, "count", c.now)
		}
	}
}

// LedgerEvents counts, since the start, the events that the ledgers of a device could not attribute exactly, by kind.
func (p *Pipeline) LedgerEvents(device string) map[string]int64 {
	out := map[string]int64{}
	for i, d := range p.settler.devices {
		if p.devices[min(i, len(p.devices)-1)].target.Info.UUID != device { // the last ones are the processors' parts
			continue
		}
		out["dropped"] += d.dropped.Load()
		if s := d.stats.Load(); s != nil {
			out["unknown"] += s.UnknownEvents
			out["late"] += s.LateEvents
			out["unqueued_decode"] += s.UnqueuedDecodes
			out["forgotten_prefill"] += s.ForgottenPrefills
			out["early_average_cell"] += s.EarlyAverageCells
			out["upstream_over_limit"] += s.UpstreamsOverLimit
		}
	}
	return out
}
