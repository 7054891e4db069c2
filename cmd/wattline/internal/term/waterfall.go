package term

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay/table"
	"wattline/sink"
)

// waterfallWidth is the width of the whole request in characters.
const waterfallWidth = 60

// bar draws from..to, in microseconds of total, and marks a phase shorter than one character with |. It clips to
// 0..total, because a computed place can be off: decode can be placed too late by the time of the first flush.
func bar(from, to, total int64) string {
	if total <= 0 {
		return ""
	}
	from = min(max(from, 0), total)
	to = min(max(to, from), total)
	left := int(from * waterfallWidth / total)
	width := int(to*waterfallWidth/total) - left
	if width < 1 {
		return strings.Repeat(" ", min(left, waterfallWidth-1)) + "|"
	}
	return strings.Repeat(" ", left) + strings.Repeat("█", width)
}

// Waterfall prints one request: its phases as bars, and its figures with their formulas. derived has the columns of the
// view efficiency for this request, by name; why says where the time to the first token went, "" where that is not known.
func Waterfall(w io.Writer, rec *meter.Record, derived map[string]float64, why string) {
	fmt.Fprintf(w, "request %s\n", table.Printable(rec.ID))
	for _, line := range [][2]string{
		{"started", rec.StartedAt.Local().Format(time.RFC3339Nano)},
		{"endpoint", strings.TrimSpace(rec.Method + " " + rec.Path + " " + rec.Model)},
		{"outcome", strings.TrimSpace(outcome(rec) + " " + rec.FinishReason)},
		{"error", rec.Error},
		{"unread", strings.Join(rec.Unread(), ", ")},
		{"client", client(rec)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%-9s%s\n", line[0], table.Printable(line[1]))
		}
	}
	fmt.Fprintln(w)
	t := table.New(w, "mark or phase", "formula", "length", "0 "+strings.Repeat("-", waterfallWidth-4-len(ms(rec.DurationUs)))+" "+ms(rec.DurationUs))
	row := func(name, formula string, length, from, to meter.Int) {
		drawn := ""
		if from.Valid {
			drawn = bar(from.V, to.V, rec.DurationUs.V)
		}
		t.Row(name, formula, ms(length), drawn)
	}
	mark := func(name, formula string, at meter.Int) { row(name, formula, at, at, at) }
	for _, s := range rec.Spans() {
		row(s.Name, s.Formula, s.Length, s.From, s.To())
	}
	mark("head (ttfb)", "H - P0", rec.TTFBUs)
	mark("first token (ttft)", "W1 - P0", rec.TTFTUs)
	if rec.TTFOUs.Valid && rec.TTFOUs != rec.TTFTUs {
		mark("first answer (ttfo)", "O1 - P0", rec.TTFOUs)
	}
	mark("end (duration)", "E - P0", rec.DurationUs)
	t.AlignRight(3)
	t.Render()
	if why != "" {
		fmt.Fprintf(w, "\n%s\n", table.Printable(why))
	}
	fmt.Fprintln(w)
	figures(w, rec, derived)
}

// client describes the client: agent, session, user, key, address and labels.
func client(r *meter.Record) string {
	var parts []string
	for _, p := range [][2]string{{"agent", r.Agent}, {"session", r.Session}, {"user", r.User}, {"key", r.APIKeyID}, {"client", r.ClientAddr}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		parts = append(parts, k+"="+r.Labels[k])
	}
	return strings.Join(parts, ", ")
}

// outputTokens is the number of output tokens, or the lower bound that is known.
func outputTokens(r *meter.Record) string {
	if least := r.OutputAtLeast(); least.Valid {
		return "≥" + table.Count(least)
	}
	return table.Count(r.OutputTokens)
}

// isSimulated reports whether the joules are a simulated device's.
func isSimulated(rec *meter.Record) bool { return strings.HasPrefix(rec.EnergySource, "sim/") }

// isOfEnergy reports whether a derived column follows from joules: its unit has joules, watts, money or CO2e.
func isOfEnergy(c sink.Derived) bool {
	return strings.Contains(c.Expr, "_uj") || strings.Contains(c.Expr, "_mw")
}

// figures prints the token counts and the derived columns with their formulas, without those that are drawn as bars or
// null.
func figures(w io.Writer, rec *meter.Record, derived map[string]float64) {
	t := table.New(w, "figure", "value", "unit", "formula")
	counted := "counted by: " + table.OrAbsent(rec.TokenSource)
	if rec.OutputAtLeast().Valid {
		counted = "a lower bound: the server never told the count"
	}
	for _, row := range [][3]string{
		{"prompt tokens", "cached ones included", table.Count(rec.PromptTokens)},
		{"cached tokens", "reused from the cache", table.Count(rec.CachedTokens)},
		{"output tokens", counted, outputTokens(rec)},
	} {
		t.Row(row[0], row[2], "", row[1])
	}
	drawn := []string{"ttfb_ms", "ttft_ms", "ttfo_ms", "duration_ms", "queue_ms", "prefill_ms", "decode_ms", "gpu_sigma_j", "cpu_sigma_j", "relative_sigma"}
	sigmas := map[string]meter.Int{"gpu_j": rec.GPUSigmaUj, "gpu_active_j": rec.GPUActiveSigmaUj, "gpu_estimate_j": rec.GPUSigmaUj, "cpu_j": rec.CPUSigmaUj}
	for _, c := range sink.EfficiencyColumns() {
		if v, ok := derived[c.Name]; ok && !slices.Contains(drawn, c.Name) {
			value := table.Number(v)
			if s := sigmas[c.Name]; s.Valid {
				value += " ± " + table.Number(float64(s.V)/1e6)
			}
			unit := c.Unit
			if isSimulated(rec) && isOfEnergy(c) {
				unit += " simulated"
			}
			t.Row(c.Name, value, unit, c.Doc)
		}
	}
	from := strings.TrimSpace(rec.EnergyMethod + " " + rec.EnergySource)
	if isSimulated(rec) {
		from += ", simulated"
	}
	t.Row("energy quality", table.OrAbsent(rec.EnergyQuality), "", from)
	if g := rec.EnergyGrade(); g != "" && !isSimulated(rec) {
		t.Row("energy grade", g, "", "by the standard error: A up to 3 %, B up to 10 %, C above")
	}
	t.AlignRight(2)
	t.Render()
}
