package attribution

import (
	"slices"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
)

// saveEvery is how often what was learnt is saved while there is traffic.
const saveEvery = int64(time.Minute)

// saveMemory saves what was learnt.
func (s *settler) saveMemory() {
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

// process takes the buffer over, feeds it to the ledgers and settles the rows with final joules.
func (s *settler) process(now int64) {
	s.mu.Lock()
	inputs := s.buffer
	s.buffer = s.spare[:0]
	s.mu.Unlock()
	for i := range inputs {
		s.take(&inputs[i], now)
	}
	clear(inputs)
	s.spare = inputs[:0]
	for _, d := range s.devices {
		if d.ledger == nil {
			continue
		}
		d.ledger.Advance(now)
		d.publishStats()
		s.collect(d)
		if d.lastAt == 0 {
			d.lastAt = now
		}
		if now-d.lastAt >= ledgerRowEvery {
			s.writeLedger(d, now)
		}
	}
	s.expire(now)
	if s.cfg.Memory != nil && now-s.savedAt >= saveEvery {
		s.savedAt = now
		s.saveMemory()
	}
}

func (s *settler) take(in *input, now int64) {
	if in.reading != nil {
		s.takeReading(s.devices[in.device], in.reading)
		return
	}
	for _, i := range in.to.devices {
		if d := s.devices[i]; d.ledger != nil {
			d.ledger.Event(in.event)
		}
	}
	if in.rec != nil && in.rec.Outcome == meter.OK {
		for _, i := range in.to.devices {
			s.devices[i].setModel(in.event.Upstream, in.rec.Model)
		}
	}
	switch {
	case in.event.Kind == energy.Arrive:
		w := s.wait(in.event.Request, in.to)
		w.unheard = !s.haveLedgers(w)
		for _, i := range in.to.devices {
			if t := s.devices[i].tempC; t.Valid && t.V > w.maxTemp.V {
				w.maxTemp = t
			}
		}
	case in.rec != nil:
		w := s.waiting[in.event.Request]
		if w == nil { // it was refused before it was sent upstream
			w = s.wait(in.event.Request, in.to)
		}
		w.rec, w.until = in.rec, now+int64(s.cfg.MaxWait)
		if in.event.Counts.Cancelled {
			w.until = now + maxAbandoned
			s.left.push(in.event.Request)
		} else {
			s.ended.push(in.event.Request)
		}
		if w.missing == 0 || w.unheard || !s.haveLedgers(w) {
			s.ready = append(s.ready, in.event.Request)
		}
	}
}

// takeReading feeds a reading to its device's ledger, and raises the highest temperature of requests that run there.
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

// collect takes a ledger's results.
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

// expire settles rows that will get no joules: their device was never read, or has stopped.
func (s *settler) expire(now int64) {
	for _, key := range s.ready {
		if w := s.waiting[key]; w != nil && (w.missing == 0 || w.unheard || !s.haveLedgers(w)) {
			s.settle(key, w)
		}
	}
	s.ready = s.ready[:0]
	for _, q := range []*fifo{&s.ended, &s.left} {
		for key, ok := q.first(); ok; key, ok = q.first() {
			w := s.waiting[key]
			if w != nil && now <= w.until {
				break // the next ones have more time still
			}
			if w != nil {
				s.settle(key, w)
			}
			q.pop()
		}
	}
}

// maxAbandoned is the longest wait for the joules of a request whose client has left: the ledger ends it when its slot was
// seen idle, or when nothing was seen of it for its settle_max.
const maxAbandoned = int64(10 * time.Minute)

// haveLedgers reports whether every device of w has a ledger.
func (s *settler) haveLedgers(w *waitingRow) bool {
	return !slices.ContainsFunc(w.to.devices, func(i int) bool { return s.devices[i].ledger == nil })
}

// settle completes a row and hands it to the queue a second time.
func (s *settler) settle(key uint64, w *waitingRow) {
	delete(s.waiting, key)
	s.open.Add(-1)
	s.fill(w)
	s.cfg.Rows.Settle(w.rec)
	w.rec, w.to = nil, nil
	if len(s.unused) < maxUnused {
		s.unused = append(s.unused, w)
	}
}

// finish closes the ledgers and settles all rows.
func (s *settler) finish() {
	now := s.cfg.Now()
	s.process(now)
	s.saveMemory()
	for _, d := range s.devices {
		if d.ledger != nil {
			d.ledger.Close(now)
			s.collect(d)
			s.writeLedger(d, now)
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

// ledgerRowEvery is how often a device's ledger leaves a row in table ledger.
const ledgerRowEvery = int64(time.Second)

// writeLedger writes what became final since the last row: each row balances, and so do their sums.
func (s *settler) writeLedger(d *deviceLedger, now int64) {
	b, p := d.ledger.Balance(), d.last
	if b.Settled <= p.Settled {
		return
	}
	from := p.Settled
	if from == 0 {
		from = b.Opened
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
	d.last, d.lastAt = b, now
	s.cfg.Rows.OfferLedger(row)
}
