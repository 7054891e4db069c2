package term

import (
	"fmt"
	"io"
	"math"
	"time"

	"wattline/meter"
	"wattline/meter/energy/recording"
	"wattline/replay/table"
	"wattline/sink/attribution"
)

// Attributed prints a line per request of a recording, and the ledger's balance.
func Attributed(w io.Writer, rec *attribution.Recording, got *attribution.Attributed, rule string) {
	if rec.Opening.Simulated {
		fmt.Fprintln(w, "simulated: the joules are those of a simulated device")
	}
	t := table.New(w, "#", "tag", "tokens in", "out", "seconds", "joules", "± σ", "active", "idle", "prefill", "decode", "J/token", "by time", "by token", "quality")
	for i := range got.Rows {
		q, r := &rec.Traffic.Requests[i], &got.Rows[i]
		var in, out, perToken meter.Int
		if m := q.Timings; m != nil {
			in, out = meter.Some(m.PromptN+m.CacheN), meter.Some(m.PredictedN)
			if r.GPUUj.Valid && m.PredictedN > 0 {
				perToken = meter.Some(r.GPUUj.V / m.PredictedN)
			}
		}
		t.Row(
			i, table.OrAbsent(q.Tag), table.Count(in), table.Count(out), fmt.Sprintf("%.2f", time.Duration(q.End-q.Send).Seconds()),
			joules(r.GPUUj), joules(r.GPUSigmaUj), joules(r.GPUActiveUj), joules(r.GPUIdleUj), joules(r.GPUPrefillUj),
			joules(r.GPUDecodeUj), joules(perToken), joules(r.GPUTimeUj), joules(r.GPUTokenUj), r.EnergyQuality,
		)
	}
	t.AlignRight(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
	t.Render()
	total := rec.Total(got, rule)
	j := func(uj int64) string { return fmt.Sprintf("%.1f J", float64(uj)/1e6) }
	fmt.Fprintf(w, "\nBy %s: requests %s + idle %s + residual %s = counter's delta %s\n",
		rule, j(total.RequestsUJ), j(total.IdleUJ), j(total.ResidualUJ), j(total.CounterDeltaUJ))
}

func joules(v meter.Int) string {
	if !v.Valid {
		return table.Absent
	}
	return table.Number(float64(v.V) / 1e6)
}

// Coalitions prints the ledger's shares beside measured ones.
func Coalitions(w io.Writer, shares []recording.Share) {
	percent := func(off float64) string { return fmt.Sprintf("%+.1f %%", 100*off) }
	t := table.New(w, "together", "request", "true J", "± error", "phase J", "off", "worst run", "by time", "by token")
	for i := range shares {
		s := &shares[i]
		t.Row(
			s.Coalition, s.Who, table.Number(s.True), table.Number(s.Error), table.Number(s.Phase), percent(s.Off(s.Phase)),
			percent(s.Off(s.WorstRun)), percent(s.Off(s.Time)), percent(s.Off(s.Token)),
		)
	}
	t.AlignRight(3, 4, 5, 6, 7, 8, 9)
	t.Render()
	fmt.Fprintf(w, "\nrms: phase %.1f %%, time %.1f %%, token %.1f %%\n",
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Phase }),
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Time }),
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Token }))
}

// Scores prints how far each method is off, for each recording and for all.
func Scores(w io.Writer, all []attribution.ScoredRecording) {
	t := table.New(w, "recording", "method", "shares", "rms", "worst", "coverage", "conservation")
	row := func(name string, s *recording.Score) {
		rms, worst, coverage := table.Absent, table.Absent, table.Absent
		if s.Shares > 0 {
			rms, worst = fmt.Sprintf("%.1f %%", 100*s.RMS), fmt.Sprintf("%+.1f %%", 100*s.Worst)
		}
		if !math.IsNaN(s.Coverage) {
			coverage = fmt.Sprintf("%.1f %%", 100*s.Coverage)
		}
		t.Row(name, s.Method, s.Shares, rms, worst, coverage, fmt.Sprintf("%.1f %%", 100*s.Conservation))
	}
	for i := range all {
		r := &all[i]
		for m := range r.Scores {
			row(r.Name, &r.Scores[m])
		}
		for _, kind := range r.Order {
			s := r.Kinds[kind]
			row(r.Name+" "+kind, &s)
		}
	}
	for m := range all[0].Scores {
		if len(all) == 1 {
			break
		}
		var of []recording.Score
		for i := range all {
			of = append(of, all[i].Scores[m])
		}
		s := recording.PoolScores(of)
		row("all", &s)
	}
	t.AlignRight(3, 4, 5, 6, 7)
	t.Render()
}
