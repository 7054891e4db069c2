package recording

import (
	"slices"
	"time"

	"wattline/meter/energy"
)

// Sources says which of a recording's sources to use, as if the device had no other.
type Sources uint8

const (
	// Best is the ring if there is one, scaled to the counter; else the counter alone.
	Best Sources = iota
	// CounterOnly withholds the ring.
	CounterOnly
	// AverageOnly leaves only the 1 s average (the profile of an RTX card).
	AverageOnly
)

// Config is the ledger configuration that fits the sources.
func (r *Recording) Config(s Sources) energy.Config {
	switch {
	case s == AverageOnly:
		return energy.Config{Shape: energy.ShapeAverage, NoCounter: true, Average: time.Second}
	case s == CounterOnly || len(r.Samples) == 0:
		return energy.Config{Shape: energy.ShapeCounter}
	}
	return energy.Config{Shape: energy.ShapeSteps}
}

// fact is one thing that arrives at the ledger at a moment.
type fact struct {
	at    int64
	order int
	tell  func(*energy.Ledger)
}

// Feed hands everything to a ledger in order of arrival and closes it. Request i (from 0) has key i + 1.
// upstream is the index of the server in the ledger. The ring's samples arrive in batches of fetch, as a
// reader of the ring would deliver them; results do not depend on it.
func (r *Recording) Feed(l *energy.Ledger, upstream int, s Sources, fetch time.Duration) {
	var facts []fact
	add := func(at int64, tell func(*energy.Ledger)) {
		facts = append(facts, fact{at, len(facts), tell})
	}
	r.addReadings(add, s)
	if s == Best {
		for _, p := range r.Samples {
			at := p.At
			if fetch > 0 {
				at = (at/int64(fetch) + 1) * int64(fetch)
			}
			add(at, func(l *energy.Ledger) { l.Power(p.At, p.MW) })
		}
	}
	for i := range r.Requests {
		for _, e := range r.Requests[i].events(uint64(i)+1, upstream) {
			add(e.At, func(l *energy.Ledger) { l.Event(e) })
		}
	}
	slices.SortStableFunc(facts, func(a, b fact) int {
		if a.at != b.at {
			if a.at < b.at {
				return -1
			}
			return 1
		}
		return a.order - b.order
	})
	var last int64
	for _, f := range facts {
		l.Advance(f.at)
		f.tell(l)
		last = f.at
	}
	l.Close(last)
}

func (r *Recording) addReadings(add func(int64, func(*energy.Ledger)), s Sources) {
	temp := int64(-1)
	for _, c := range r.Readings {
		switch s {
		case AverageOnly:
			add(c.After, func(l *energy.Ledger) { l.Power(c.After, c.AverageMW) })
		default:
			add(c.After, func(l *energy.Ledger) { l.Counter(c.Before, c.After, c.EnergyMJ*1000) })
		}
		if c.TempC != temp {
			temp = c.TempC
			add(c.After, func(l *energy.Ledger) {
				l.Event(energy.Event{Kind: energy.Temperature, At: c.After, MilliC: c.TempC * 1000})
			})
		}
	}
}

// events lists the request's events, in order.
func (q *Request) events(key uint64, upstream int) []energy.Event {
	e := []energy.Event{{Kind: energy.Arrive, Request: key, At: q.Send, Upstream: upstream, PromptHint: q.Words}}
	end := energy.Event{Kind: energy.End, Request: key, At: q.End, Counts: energy.Counts{Cancelled: q.Cancelled}}
	if t := q.Timings; t != nil {
		end.Counts.Known = true
		end.Counts.PromptTokens, end.Counts.CachedTokens = t.PromptN+t.CacheN, t.CacheN
		end.Counts.OutputTokens = t.PredictedN
		end.Counts.Prefill = time.Duration(t.PromptMS * 1e6)
		end.Counts.Decode = time.Duration(t.PredictedMS * 1e6)
	}
	if q.Header != nil {
		start := energy.Event{Kind: energy.SlotStart, Request: key, At: *q.Header}
		if q.Slot != nil {
			start.Slot, start.SlotKnown = *q.Slot, true
		}
		e = append(e, start)
	}
	e = append(e, q.tokens(key)...)
	return append(e, end)
}

// tokens are the events of generated output. The first event of a chat stream is role-only and comes
// with the first token's; the last may be the timings'. Only the first gaps were kept: tokens beyond
// them are spread evenly up to the last event.
func (q *Request) tokens(key uint64) []energy.Event {
	if q.Event1 == nil || q.Event0 == nil {
		return nil
	}
	n := q.Events - 2 // tokens after the first: less the role-only event and the first token's own
	if t := q.Timings; t != nil {
		n = t.PredictedN - 1
	}
	e := []energy.Event{{Kind: energy.FirstToken, Request: key, At: *q.Event1}}
	at := *q.Event1
	gaps := q.GapsUS
	if len(gaps) > 0 {
		gaps = gaps[1:] // between the role-only event and the first token
	}
	for _, g := range gaps {
		if n == 0 {
			return e
		}
		at += g * 1000
		if at > q.End {
			break
		}
		e = append(e, energy.Event{Kind: energy.Decode, Request: key, At: at, Tokens: 1})
		n--
	}
	if q.Last == nil || *q.Last <= at {
		return e
	}
	for k := int64(1); k <= n; k++ {
		t := at + int64(float64(*q.Last-at)*float64(k)/float64(n))
		e = append(e, energy.Event{Kind: energy.Decode, Request: key, At: t, Tokens: 1})
	}
	return e
}
