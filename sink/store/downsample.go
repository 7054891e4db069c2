package store

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// downsampledSpan is the span of old rows of power and ledger.
const downsampledSpan = time.Minute

// downsamplePower merges rows of the same instance, device and minute: energies and times add up, means are
// weighted by time, and extremes, the last known settings and all marks are kept. rows must be in order of time. The second
// result is, for each input row, the index of its output row.
func downsamplePower(rows []*sink.Power) ([]*sink.Power, []int) {
	return downsample(rows, func(p *sink.Power) (string, time.Time) { return p.Instance + "|" + p.Device, p.At }, func(to, p *sink.Power) {
		to.MeanMw = weighted(to.MeanMw, to.SpanUs, p.MeanMw, p.SpanUs)
		to.UtilPermille = weighted(to.UtilPermille, to.SpanUs, p.UtilPermille, p.SpanUs)
		to.MemUtilPermille = weighted(to.MemUtilPermille, to.SpanUs, p.MemUtilPermille, p.SpanUs)
		to.SMClockMHz = weighted(to.SMClockMHz, to.SpanUs, p.SMClockMHz, p.SpanUs)
		to.MemClockMHz = weighted(to.MemClockMHz, to.SpanUs, p.MemClockMHz, p.SpanUs)
		to.SpanUs = sum(to.SpanUs, p.SpanUs)
		to.EnergyUj = sum(to.EnergyUj, p.EnergyUj)
		to.ErrorUj = sum(to.ErrorUj, p.ErrorUj)
		to.ThrottledUs = sum(to.ThrottledUs, p.ThrottledUs)
		to.MinMw = smaller(to.MinMw, p.MinMw)
		to.MaxMw = larger(to.MaxMw, p.MaxMw)
		to.TempC = larger(to.TempC, p.TempC)
		to.MemTempC = larger(to.MemTempC, p.MemTempC)
		to.VRAMBytes = larger(to.VRAMBytes, p.VRAMBytes)
		to.UpstreamVRAMBytes = larger(to.UpstreamVRAMBytes, p.UpstreamVRAMBytes)
		to.Contended = larger(to.Contended, p.Contended)
		to.Simulated = larger(to.Simulated, p.Simulated)
		to.LimitMw = last(to.LimitMw, p.LimitMw)
		to.Channel = cmp.Or(p.Channel, to.Channel)
		if to.Marked == "" || p.Marked != "" && !slices.Contains(strings.Split(to.Marked, "; "), p.Marked) {
			to.Marked = strings.Trim(to.Marked+"; "+p.Marked, "; ")
		}
		for _, reason := range p.Throttle {
			if !slices.Contains(to.Throttle, reason) {
				to.Throttle = append(to.Throttle, reason)
			}
		}
	})
}

// downsampleLedger merges rows as downsamplePower does. Every part adds up, so the balance of the rows holds for
// their sum.
func downsampleLedger(rows []*sink.Ledger) ([]*sink.Ledger, []int) {
	return downsample(rows, func(l *sink.Ledger) (string, time.Time) { return l.Instance + "|" + l.Device, l.At }, func(to, l *sink.Ledger) {
		to.SpanUs = sum(to.SpanUs, l.SpanUs)
		to.CounterUj = sum(to.CounterUj, l.CounterUj)
		to.RequestsActiveUj = sum(to.RequestsActiveUj, l.RequestsActiveUj)
		to.RequestsIdleUj = sum(to.RequestsIdleUj, l.RequestsIdleUj)
		to.PoolsUj = sum(to.PoolsUj, l.PoolsUj)
		to.IdleUj = sum(to.IdleUj, l.IdleUj)
		to.ResidualUj = sum(to.ResidualUj, l.ResidualUj)
		// The idle level's error is the same second after second: it adds up, it does not average out.
		to.IdleSigmaUj = sum(to.IdleSigmaUj, l.IdleSigmaUj)
	})
}

func downsample[T any](rows []*T, key func(*T) (string, time.Time), merge func(to, row *T)) (merged []*T, into []int) {
	type group struct {
		device string
		minute int64
	}
	groups := map[group]int{}
	for _, row := range rows {
		device, at := key(row)
		g := group{device, at.Truncate(downsampledSpan).Unix()}
		i, ok := groups[g]
		if ok {
			merge(merged[i], row)
		} else {
			i = len(merged)
			groups[g] = i
			first := *row
			merged = append(merged, &first)
		}
		into = append(into, i)
	}
	return merged, into
}

func sum(a, b meter.Int) meter.Int {
	if !a.Valid || !b.Valid {
		return last(a, b)
	}
	return meter.Some(a.V + b.V)
}

func larger(a, b meter.Int) meter.Int {
	if !a.Valid || !b.Valid {
		return last(a, b)
	}
	return meter.Some(max(a.V, b.V))
}

func smaller(a, b meter.Int) meter.Int {
	if !a.Valid || !b.Valid {
		return last(a, b)
	}
	return meter.Some(min(a.V, b.V))
}

func last(a, b meter.Int) meter.Int {
	if b.Valid {
		return b
	}
	return a
}

// weighted returns the mean of a and b, weighted by their spans wa and wb.
func weighted(a, wa, b, wb meter.Int) meter.Int {
	if !a.Valid || !b.Valid || wa.V+wb.V <= 0 {
		return last(a, b)
	}
	mean := (float64(a.V)*float64(wa.V) + float64(b.V)*float64(wb.V)) / float64(wa.V+wb.V)
	return meter.Some(int64(mean + 0.5))
}
