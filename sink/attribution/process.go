package attribution

import (
	"slices"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
)

// device is one device's ledger and what was last told of it. Owned by the settler's goroutine.
type deviceLedger struct {
	index     int
	name      string
	cfg       *settlerConfig
	source    string
	told      string // the last channel that names was asked with, and what it said
	said      string
	processor bool
	models    []string       // by upstream: the model whose coefficients the ledger learns; "" not known yet
	ledger    *energy.Ledger // nil until its first reading tells what it can do
	last      energy.Balance
	wrote     int64 // when the last ledger row was written

	tempC, memB, limitMw meter.Int
	others               bool // another process computes there
}

// maxUpstreams is how many servers of one device a ledger tells apart.
const maxUpstreams = 8

// open makes the ledger that fits a device's first reading.
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

// newLedger makes a device's ledger, in line and offline. It tells maxUpstreams servers apart, whose coefficients may be
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

// serves notes that an upstream serves a model. Another one than before has its own coefficients, if it
// was seen before; else it begins with those that are there.
func (d *deviceLedger) serves(upstream int, model string) {
	upstream = min(upstream, maxUpstreams-1)
	if model == "" || d.ledger == nil || d.models[upstream] == model {
		return
	}
	d.keep(upstream)
	if l, ok := d.cfg.Memory.Recall(d.name, model); ok {
		d.ledger.Recall(upstream, l.Coefficients)
	}
	d.models[upstream] = model
}

// keep tells the memory what has been learnt of an upstream's model.
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

// keepEvery is how often what was learnt is kept while there is traffic.
const keepEvery = int64(time.Minute)

// remember keeps what was learnt.
func (s *settler) remember() {
	for _, d := range s.devices {
		if d.ledger == nil {
			continue
		}
		for i := range d.models {
			d.keep(i)
		}
	}
	if err := s.cfg.Memory.Save(); err != nil {
		s.cfg.Log.Warn("the next start will have to learn anew", "error", err)
	}
}

// read feeds a reading to the device's ledger.
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
	d.tell(r)
}

// tell notes gauges, and tells the ledger of those that matter to it.
func (d *deviceLedger) tell(r *reading) {
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

// round takes over what has come, feeds it to the ledgers and hands on what is final.
func (s *settler) process(now int64) {
	s.mu.Lock()
	steps := s.steps
	s.steps = s.spare[:0]
	s.mu.Unlock()
	for i := range steps {
		s.take(&steps[i], now)
	}
	clear(steps)
	s.spare = steps[:0]
	for _, d := range s.devices {
		if d.ledger == nil {
			continue
		}
		d.ledger.Advance(now)
		s.collect(d)
		s.account(d, now)
	}
	s.expire(now)
	if s.cfg.Memory != nil && now-s.kept >= keepEvery {
		s.kept = now
		s.remember()
	}
}

func (s *settler) take(st *step, now int64) {
	if st.reading != nil {
		s.takeReading(s.devices[st.device], st.reading)
		return
	}
	for _, i := range st.to.devices {
		if d := s.devices[i]; d.ledger != nil {
			d.ledger.Event(st.event)
		}
	}
	if st.rec != nil && st.rec.Outcome == meter.OK {
		for _, i := range st.to.devices {
			s.devices[i].serves(st.event.Upstream, st.rec.Model)
		}
	}
	switch {
	case st.event.Kind == energy.Arrive:
		w := s.wait(st.event.Request, st.to)
		for _, i := range st.to.devices {
			if t := s.devices[i].tempC; t.Valid && t.V > w.maxTemp.V {
				w.maxTemp = t
			}
		}
	case st.rec != nil:
		w := s.waiting[st.event.Request]
		if w == nil { // it was refused before it was sent: nothing is charged to it
			w = s.wait(st.event.Request, st.to)
		}
		w.rec, w.until = st.rec, now+int64(s.cfg.MaxWait)
		s.ended.push(st.event.Request)
		if w.missing == 0 || !s.haveLedgers(w) {
			s.ready = append(s.ready, st.event.Request)
		}
	}
}

// takeReading feeds a reading to its device, and tells those who wait of a temperature that they have not
// seen yet.
func (s *settler) takeReading(d *deviceLedger, r *reading) {
	before := d.tempC
	d.read(r)
	if !r.TempC.Valid || r.TempC == before {
		return
	}
	for _, w := range s.waiting {
		if r.TempC.V > w.maxTemp.V && slices.Contains(w.to.devices, d.index) {
			w.maxTemp = r.TempC
		}
	}
}

// collect takes the results of one device.
func (s *settler) collect(d *deviceLedger) {
	for r, ok := d.ledger.Next(); ok; r, ok = d.ledger.Next() {
		w := s.waiting[r.Request]
		if w == nil {
			continue
		}
		if i := slices.Index(w.to.devices, d.index); i >= 0 && !w.got[i] {
			w.results[i], w.got[i] = r, true
			w.missing--
		}
		if w.missing == 0 && w.rec != nil {
			s.settle(r.Request, w)
		}
	}
}

// expire gives up on rows whose joules do not come: their device was never read, or never settled.
func (s *settler) expire(now int64) {
	for _, key := range s.ready {
		if w := s.waiting[key]; w != nil && (w.missing == 0 || !s.haveLedgers(w)) {
			s.settle(key, w)
		}
	}
	s.ready = s.ready[:0]
	for key, ok := s.ended.first(); ok; key, ok = s.ended.first() {
		w := s.waiting[key]
		if w != nil && now <= w.until {
			return // those behind it have more time still
		}
		if w != nil {
			s.settle(key, w)
		}
		s.ended.pop()
	}
}

// read reports whether every device of w has a ledger.
func (s *settler) haveLedgers(w *waiting) bool {
	return !slices.ContainsFunc(w.to.devices, func(i int) bool { return s.devices[i].ledger == nil })
}

// settle completes a row and hands it on.
func (s *settler) settle(key uint64, w *waiting) {
	delete(s.waiting, key)
	s.open.Add(-1)
	s.fill(w)
	s.cfg.Rows.Settle(w.rec)
	w.rec, w.to = nil, nil
	if len(s.unused) < maxUnused {
		s.unused = append(s.unused, w)
	}
}

// finish closes the ledgers and settles what is left.
func (s *settler) finish() {
	now := s.cfg.Now()
	s.process(now)
	s.remember()
	for _, d := range s.devices {
		if d.ledger != nil {
			d.ledger.Close(now)
			s.collect(d)
			s.writeAccount(d, now)
		}
	}
	for key, w := range s.waiting {
		if w.rec != nil {
			s.settle(key, w)
		}
	}
}

// Waiting is how many rows wait for their joules.
func (s *settler) Waiting() int { return int(s.open.Load()) }

// accountEvery is how often a device's ledger leaves a row.
const accountEvery = int64(1e9)

func (s *settler) account(d *deviceLedger, now int64) {
	if d.wrote == 0 {
		d.wrote = now
	}
	if now-d.wrote >= accountEvery {
		s.writeAccount(d, now)
	}
}

// writeAccount writes what was settled since the last row: each row balances, and so do their sums.
func (s *settler) writeAccount(d *deviceLedger, now int64) {
	b, p := d.ledger.Balance(), d.last
	if b.Settled <= p.Settled {
		return
	}
	from := p.Settled
	if from == 0 {
		from = b.Settled - accountEvery
	}
	row := &sink.Ledger{
		At: s.cfg.Wall(from).UTC(), Instance: s.cfg.Instance, Device: d.name, Source: d.source,
		SpanUs:           meter.Some((b.Settled - from) / 1000),
		CounterUj:        meter.Some(b.Counter - b.Pending - (p.Counter - p.Pending)),
		RequestsActiveUj: meter.Some(b.RequestsActive - p.RequestsActive),
		RequestsIdleUj:   meter.Some(b.RequestsIdle - p.RequestsIdle),
		PoolsUj:          meter.Some(b.Pools - p.Pools),
		IdleUj:           meter.Some(b.Idle - p.Idle),
		ResidualUj:       meter.Some(b.Residual - p.Residual),
	}
	d.last, d.wrote = b, now
	s.cfg.Rows.OfferLedger(row)
}
