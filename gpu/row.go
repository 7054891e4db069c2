package gpu

import (
	"math"

	"wattline/meter"
)

const secondNs = 1e9

// rowMaker cuts a device's time into whole seconds of wall time.
type rowMaker struct {
	next int64 // the start of the next row; 0 before the first epoch
	last Row
}

// How long a second's energy is waited for before it is given as null.
const rowPatienceNs = 6e9

// begin starts at the next whole second, unless rows were made in an earlier epoch.
func (m *rowMaker) begin(now int64) {
	if m.next == 0 {
		m.next = (now + secondNs - 1) / secondNs * secondNs
	}
}

// make appends the rows that are complete.
func (m *rowMaker) make(rows []Row, now int64, r *runner) []Row {
	for m.next+secondNs <= now {
		e := Estimate{}
		if r.trace.Until() >= m.next+secondNs {
			e = r.trace.Energy(m.next, m.next+secondNs)
		}
		if !e.OK && m.next >= max(r.began, r.trace.since()) && now < m.next+secondNs+rowPatienceNs {
			return rows
		}
		if e.OK && r.counts() && e.Channel != ChannelCounter && now < m.next+secondNs+rowPatienceNs {
			return rows // the next read of the counter says how much it was
		}
		row := m.blank(r.info, r.epoch)
		row.Contention, row.UpstreamMemB, row.Status = r.contention, r.upstreamMem, r.latest.Status
		if e.OK {
			row.EnergyUj, row.ErrorUj = meter.Some(e.Uj), meter.Some(e.ErrorUj)
			row.MeanMw = meter.Some((e.Uj + 500) / 1000) // microjoules in one second
			row.Channel, row.Marked = e.Channel, e.Marked
			row.MinMw, row.MaxMw = r.trace.Extremes(row.From, row.From+secondNs)
		} else {
			row.Marked = "not covered by readings"
		}
		rows = append(rows, row)
	}
	return rows
}

// missing appends empty rows for the seconds up to now: those without a device, and those at the end of
// an epoch with an energy that will not be known.
func (m *rowMaker) missing(rows []Row, now int64, info Info, epoch int, why string) []Row {
	if m.next == 0 {
		m.begin(now)
	}
	for m.next+secondNs <= now {
		row := m.blank(info, epoch)
		row.Marked = why
		rows = append(rows, row)
	}
	return rows
}

// blank returns the next row with nothing in it.
func (m *rowMaker) blank(info Info, epoch int) Row {
	row := Row{
		Device: info.UUID, Source: info.Source, Simulated: info.Simulated, Epoch: epoch,
		From: m.next, DurationNs: secondNs,
	}
	m.next += secondNs
	return row
}

// Extremes returns the lowest and highest power of the load in [from, to], as its channel shows it,
// scaled to the counter like the energy.
func (t *Trace) Extremes(from, to int64) (low, high meter.Int) {
	if t.hasProfile() && t.c.gapIn(from+t.profileLag, to+t.profileLag) {
		return low, high
	}
	if t.hasProfile() && t.c.covers(from+t.profileLag) && t.c.covers(to+t.profileLag) {
		l, h := t.c.extremes(from+t.profileLag, to+t.profileLag)
		gain := 1.0
		if e := t.Energy(from, to); e.OK {
			gain = float64(e.Uj) / (t.c.energy(to+t.profileLag) - t.c.energy(from+t.profileLag))
		}
		return meter.Some(int64(math.Floor(float64(l) * gain))), meter.Some(int64(math.Ceil(float64(h) * gain)))
	}
	for i := 1; i < len(t.steps); i++ {
		a, b := t.steps[i-1], t.steps[i]
		if b.mid()-t.tickLag <= from || a.mid()-t.tickLag >= to || b.mid() <= a.mid() {
			continue
		}
		mw := int64(float64(b.uj-a.uj) * 1e6 / float64(b.mid()-a.mid()))
		if !low.Valid || mw < low.V {
			low = meter.Some(mw)
		}
		if !high.Valid || mw > high.V {
			high = meter.Some(mw)
		}
	}
	return low, high
}
