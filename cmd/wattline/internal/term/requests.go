package term

import (
	"fmt"
	"io"

	"wattline/meter"
	"wattline/replay/table"
)

// shortID returns the end of a UUIDv7, which is random, so that it identifies a request. The beginning is the time.
func shortID(id string) string { return id[max(0, len(id)-8):] }

// Requests prints one line per request.
func Requests(w io.Writer, recs []*meter.Record) { requests(w, recs).Render() }

// FollowRequests prints further lines below a list that is followed. Its columns have a fixed width where values allow it.
func FollowRequests(w io.Writer, recs []*meter.Record, header bool) {
	t := requests(w, recs)
	t.FixWidths(header, 18, 8, 24, 20, 9, 6, 6, 5, 8, 8, 8, 8, 12)
	t.Render()
}

func requests(w io.Writer, recs []*meter.Record) *table.Table {
	t := table.New(w, "started", "id", "model", "path", "outcome", "in", "cached", "out", "queue", "ttft", "decode", "total", "energy")
	for _, r := range recs {
		t.Row(
			r.StartedAt.Local().Format("01-02 15:04:05.000"), shortID(r.ID), table.OrAbsent(r.Model), table.OrAbsent(r.Path), outcome(r),
			table.Count(r.PromptTokens), table.Count(r.CachedTokens), table.Count(r.OutputTokens),
			ms(r.QueueUs), ms(r.TTFTUs), ms(r.DecodeUs), ms(r.DurationUs), energyOf(r),
		)
	}
	t.AlignRight(6, 7, 8, 9, 10, 11, 12, 13)
	return t
}

// outcome returns ok, or the kind of failure with its status code.
func outcome(r *meter.Record) string {
	if r.Outcome == meter.OK || !r.Status.Valid {
		return table.OrAbsent(string(r.Outcome))
	}
	return fmt.Sprintf("%s %d", r.Outcome, r.Status.V)
}

// energyOf returns a request's joules with their standard error and grade, or the energy quality if there are none.
func energyOf(r *meter.Record) string {
	uj, sigma := r.EnergyUj(), r.EnergySigmaUj()
	if !uj.Valid {
		return table.OrAbsent(r.EnergyQuality)
	}
	text := table.InUnit(uj, 1e6, "J")
	if sigma.Valid {
		text = table.InUnit(uj, 1e6, "") + "± " + table.InUnit(sigma, 1e6, "J")
		if !isSimulated(r) {
			text += " " + r.EnergyGrade()
		}
	}
	if !r.GPUUj.Valid {
		text += " CPU"
	}
	if isSimulated(r) {
		text += " simulated"
	}
	return text
}
