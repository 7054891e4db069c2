package autopsy

import (
	"wattline/meter"
	"wattline/meter/cache"
	"wattline/sink/attribution"
)

// rows completes the columns cache_* on the way to the queue: with the server's slots, where they were asked for, and with the
// joules.
type rows struct {
	attribution.Rows
	a *Autopsy
}

// Rows returns rows that are completed before they go on.
func (a *Autopsy) Rows(next attribution.Rows) attribution.Rows {
	if a == nil {
		return next
	}
	return rows{next, a}
}

// Offer implements attribution.Rows. A row that will come again goes on as it is; a final one waits for its slots.
func (r rows) Offer(rec *meter.Record) bool {
	if rec.EnergyQuality == meter.EnergyPending {
		return r.Rows.Offer(rec)
	}
	return r.complete(rec, r.Rows.Offer)
}

// Settle implements attribution.Rows.
func (r rows) Settle(rec *meter.Record) bool { return r.complete(rec, r.Rows.Settle) }

// complete prices a row and passes it on, later where a question is open.
func (r rows) complete(rec *meter.Record, next func(*meter.Record) bool) bool {
	if rec.CacheVerdict == "" {
		return next(rec)
	}
	r.a.mu.Lock()
	pending := r.a.asked[rec.ID]
	delete(r.a.asked, rec.ID)
	if pending != nil {
		r.a.asking.Add(1)
	}
	r.a.mu.Unlock()
	if pending == nil {
		cache.Price(rec)
		return next(rec)
	}
	go func() { // bounded by askTimeout; Stop waits for it
		defer r.a.asking.Done()
		<-pending.done
		pending.verdict.Fill(rec)
		cache.Price(rec)
		next(rec)
	}()
	return true
}
