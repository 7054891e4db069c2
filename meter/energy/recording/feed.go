package recording

import (
	"cmp"
	"slices"
	"time"

	"wattline/meter/energy"
)

// Reading is one read of the device's counter and gauges. If HasX is false, X was not obtained.
type Reading struct {
	Before, After int64 // ns
	Lo, Hi        int64 // the counter took its value after Lo and not after Hi; 0, 0: not recorded
	EnergyUJ      int64
	HasEnergy     bool
	AverageMW     int64 // mean power of the last second
	HasAverage    bool
	TempC         int64
	HasTemp       bool
	Contended     bool // another process computes on the device; with HasContended
	HasContended  bool
	Lost          bool // the device was lost then
}

// Sample is one power sample of the driver's buffer: the mean since the sample before it.
type Sample struct {
	At int64 // ns
	MW int64
}

// Device holds what was recorded of one device, in order of time.
type Device struct {
	Readings []Reading
	Samples  []Sample // empty if it has none
}

// Sources says which of a recording's sources to use, as if the device had no other.
type Sources uint8

const (
	// Best is the finest there is: samples scaled to the counter; else the counter; else the average.
	Best Sources = iota
	// CounterOnly withholds the samples.
	CounterOnly
	// AverageOnly leaves only the 1 s average (the profile of an RTX card).
	AverageOnly
)

// Config is the ledger configuration that fits the sources.
func (d *Device) Config(s Sources) energy.Config {
	counts := slices.ContainsFunc(d.Readings, func(r Reading) bool { return r.HasEnergy })
	switch {
	case s == Best && len(d.Samples) > 0:
		return energy.Config{Shape: energy.ShapeSamples, NoCounter: !counts}
	case s == AverageOnly || !counts:
		return energy.Config{Shape: energy.ShapeAverage, NoCounter: true, Average: time.Second}
	}
	return energy.Config{Shape: energy.ShapeCounter}
}

// fact is one input of the ledger.
type fact struct {
	at   int64
	tell func(*energy.Ledger)
}

// Feed hands everything to a ledger in order of arrival and closes it. Request i (from 0) has key i + 1;
// upstream is the server's index in the ledger. Samples arrive in batches of fetch, as a sampler delivers them (0:
// each at its own time); results do not depend on it. each, if not nil, is called after all facts of one stamp.
func Feed(l *energy.Ledger, upstream int, d *Device, requests []Request, fetch time.Duration, each func(at int64)) {
	FeedTraffic(l, upstream, d, &Traffic{Requests: requests}, fetch, each)
}

// FeedTraffic does what Feed does, with all that requests.jsonl holds. Requests of the recorder's n-th
// upstream go to the ledger's upstream + n.
func FeedTraffic(l *energy.Ledger, upstream int, d *Device, t *Traffic, fetch time.Duration, each func(at int64)) {
	requests := t.Requests
	var facts []fact
	add := func(at int64, tell func(*energy.Ledger)) { facts = append(facts, fact{at, tell}) }
	d.facts(l.Config(), fetch, add)
	for i := range requests {
		for _, e := range requests[i].events(uint64(i)+1, upstream+requests[i].Upstream) {
			add(e.At, func(l *energy.Ledger) { l.Event(e) })
		}
	}
	for _, e := range t.seen() {
		add(e.At, func(l *energy.Ledger) { l.Event(e) })
	}
	slices.SortStableFunc(facts, func(a, b fact) int { return cmp.Compare(a.at, b.at) })
	var last int64
	for _, f := range facts {
		l.Advance(f.at)
		f.tell(l)
		last = f.at
		if each != nil {
			each(f.at)
		}
	}
	l.Close(last)
}

// facts are the device's readings, those that the ledger's configuration asks for.
func (d *Device) facts(cfg energy.Config, fetch time.Duration, add func(int64, func(*energy.Ledger))) {
	temp, contended := int64(-1), false
	for _, r := range d.Readings {
		if cfg.Shape == energy.ShapeAverage && r.HasAverage {
			add(r.After, func(l *energy.Ledger) { l.Power(r.After, r.AverageMW) })
		}
		if !cfg.NoCounter && r.HasEnergy {
			add(r.After, func(l *energy.Ledger) { l.Tick(r.Before, r.After, r.Lo, r.Hi, r.EnergyUJ) })
		}
		if r.Lost {
			add(r.After, func(l *energy.Ledger) { l.Event(energy.Event{Kind: energy.Lost, At: r.After}) })
		}
		if r.HasContended && r.Contended != contended {
			contended = r.Contended
			add(r.After, func(l *energy.Ledger) {
				l.Event(energy.Event{Kind: energy.Contended, At: r.After, On: r.Contended})
			})
		}
		if r.HasTemp && r.TempC != temp {
			temp = r.TempC
			add(r.After, func(l *energy.Ledger) {
				l.Event(energy.Event{Kind: energy.Temperature, At: r.After, MilliC: r.TempC * 1000})
			})
		}
	}
	if cfg.Shape != energy.ShapeSamples {
		return
	}
	for _, p := range d.Samples {
		at := p.At
		if fetch > 0 {
			at = (at/int64(fetch) + 1) * int64(fetch)
		}
		add(at, func(l *energy.Ledger) { l.Power(p.At, p.MW) })
	}
}
