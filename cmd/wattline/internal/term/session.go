package term

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay/table"
)

// Session prints what the requests of a session used, which come newest first.
func Session(w io.Writer, recs []*meter.Record, currency string) {
	var agents, models []string
	var prompt, cached, output, uj, variance, cost float64
	var turns, failed, measured, priced, counted int
	var ttft []int64
	var slowest *meter.Record
	inferred, simulated := false, false
	add := func(list *[]string, v string) {
		if v != "" && !slices.Contains(*list, v) {
			*list = append(*list, v)
		}
	}
	for _, r := range recs {
		add(&agents, r.Agent)
		add(&models, r.Model)
		inferred = inferred || r.Details != nil && r.Details.SessionSource == meter.SessionInferred
		if r.Outcome == meter.OK && r.OutputTokens.Valid {
			turns++
		} else if r.Outcome != meter.OK {
			failed++
		}
		if r.PromptTokens.Valid {
			counted++
			prompt, cached, output = prompt+float64(r.PromptTokens.V), cached+float64(r.CachedTokens.V), output+float64(r.OutputTokens.V)
		}
		if j := r.EnergyUj(); j.Valid {
			measured++
			uj, variance = uj+float64(j.V), variance+float64(r.EnergySigmaUj().V)*float64(r.EnergySigmaUj().V)
			simulated = simulated || strings.HasPrefix(r.EnergySource, "sim/")
			if p := r.PricePerKWhMicro; p.Valid {
				priced++
				cost += float64(j.V) / 3.6e12 * float64(p.V) / 1e6
			}
		}
		if r.TTFTUs.Valid {
			ttft = append(ttft, r.TTFTUs.V)
			if slowest == nil || r.TTFTUs.V > slowest.TTFTUs.V {
				slowest = r
			}
		}
	}
	first, last := recs[len(recs)-1].StartedAt, recs[0].StartedAt
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-10s%s\n", what, table.Printable(fmt.Sprintf(format, args...)))
	}
	how := ""
	if inferred {
		how = " (no client named it: inferred from the growing prompt)"
	}
	line("session", "%s%s", recs[0].Session, how)
	line("agent", "%s, model %s", table.OrAbsent(strings.Join(agents, ", ")), table.OrAbsent(strings.Join(models, ", ")))
	line("turns", "%d, of %d requests %d failed; %s to %s (%s)", turns, len(recs), failed, first.Local().Format(time.DateTime), last.Local().Format(time.DateTime),
		last.Sub(first).Round(time.Second))
	if counted > 0 {
		share := table.Absent
		if prompt > 0 {
			share = table.Number(100*cached/prompt) + " %"
		}
		line("tokens", "%.0f in, %s of them cached; %.0f out", prompt, share, output)
	}
	if measured > 0 {
		factor, unit := energyUnit(uj / 3.6e12)
		note := ""
		if simulated {
			note = ", SIMULATED"
		}
		line("energy", "%s %s (%s ± %s J%s), known for %d of %d", table.Number(uj/3.6e12*factor), unit, table.Number(uj/1e6), table.Number(math.Sqrt(variance)/1e6), note, measured, len(recs))
	} else {
		line("energy", "not measured")
	}
	if priced > 0 {
		line("cost", "%s %s", table.Number(cost), currency)
	}
	if slowest != nil {
		slices.Sort(ttft)
		line("ttft", "median %s, slowest %s (wattline requests %s says why)", ms(meter.Some(ttft[len(ttft)/2])), ms(slowest.TTFTUs), shortID(slowest.ID))
	}
}
