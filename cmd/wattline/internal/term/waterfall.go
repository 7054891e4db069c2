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

// phase is one row of the waterfall. Times are in microseconds after P0.
type phase struct {
	name, formula string
	from, to      int64
	length        meter.Int // as stored
	placed        bool      // from and to are known
}

// phases places a request's phases on the time since P0. The row has durations, from which the marks are computed:
// P1 = ttft - upstream_ttft, S = P1 + load + queue, T1 = ttft; for a request that was not streamed,
// S = duration - decode - prefill.
func phases(r *meter.Record) []phase {
	load := phase{name: "load", formula: "as told", length: r.LoadUs}
	queue := phase{name: "queue", formula: "S - P1", length: r.QueueUs}
	if load.length.Valid {
		queue.formula = "S - P1 - load"
	}
	prefill := phase{name: "prefill", formula: "server's prompt_ms", length: r.PrefillUs}
	decode := phase{name: "decode", formula: "Tn - T1", length: r.DecodeUs}
	if r.Stream.Valid && r.Stream.V == 0 {
		decode.formula = "server's predicted_ms"
		decode.place(meter.Some(r.DurationUs.V-r.DecodeUs.V), r.DurationUs.Valid && r.DecodeUs.Valid)
		prefill.place(meter.Some(decode.from-r.PrefillUs.V), decode.placed)
		queue.place(meter.Some(prefill.from-r.QueueUs.V), prefill.placed)
		load.place(meter.Some(queue.from-r.LoadUs.V), queue.placed)
		return withLoad(load, queue, prefill, decode)
	}
	sent := meter.Int{V: r.TTFTUs.V - r.UpstreamTTFTUs.V, Valid: r.TTFTUs.Valid && r.UpstreamTTFTUs.Valid}
	load.place(sent, sent.Valid)
	sent.V += r.LoadUs.V
	queue.place(sent, sent.Valid)
	prefill.place(meter.Some(queue.to), queue.placed)
	decode.place(r.TTFTUs, r.TTFTUs.Valid)
	return withLoad(load, queue, prefill, decode)
}

// withLoad leaves out a load that there was none of.
func withLoad(load phase, others ...phase) []phase {
	if !load.length.Valid {
		return others
	}
	return append([]phase{load}, others...)
}

// place sets from and to if both the start and the length are known.
func (s *phase) place(from meter.Int, known bool) {
	if !known || !from.Valid || !s.length.Valid {
		return
	}
	s.from, s.to, s.placed = from.V, from.V+s.length.V, true
}

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
// view efficiency for this request, by name.
func Waterfall(w io.Writer, rec *meter.Record, derived map[string]float64) {
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
	row := func(s phase) {
		drawn := ""
		if s.placed {
			drawn = bar(s.from, s.to, rec.DurationUs.V)
		}
		t.Row(s.name, s.formula, ms(s.length), drawn)
	}
	mark := func(name, formula string, at meter.Int) {
		row(phase{name: name, formula: formula, from: at.V, to: at.V, length: at, placed: at.Valid})
	}
	for _, s := range phases(rec) {
		row(s)
	}
	mark("head (ttfb)", "H - P0", rec.TTFBUs)
	mark("first token (ttft)", "W1 - P0", rec.TTFTUs)
	if rec.TTFOUs.Valid && rec.TTFOUs != rec.TTFTUs {
		mark("first answer (ttfo)", "O1 - P0", rec.TTFOUs)
	}
	mark("end (duration)", "E - P0", rec.DurationUs)
	t.AlignRight(3)
	t.Render()
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

// figures prints the token counts and the derived columns with their formulas, without those that are drawn as bars or
// null.
func figures(w io.Writer, rec *meter.Record, derived map[string]float64) {
	t := table.New(w, "figure", "value", "unit", "formula")
	for _, c := range []struct {
		name, doc string
		n         meter.Int
	}{
		{"prompt tokens", "cached ones included", rec.PromptTokens},
		{"cached tokens", "reused from the cache", rec.CachedTokens},
		{"output tokens", "counted by: " + table.OrAbsent(rec.TokenSource), rec.OutputTokens},
	} {
		t.Row(c.name, table.Count(c.n), "", c.doc)
	}
	drawn := []string{"ttfb_ms", "ttft_ms", "ttfo_ms", "duration_ms", "queue_ms", "prefill_ms", "decode_ms"}
	for _, c := range sink.EfficiencyColumns() {
		if v, ok := derived[c.Name]; ok && !slices.Contains(drawn, c.Name) {
			t.Row(c.Name, table.Number(v), c.Unit, c.Doc)
		}
	}
	from := strings.TrimSpace(rec.EnergyMethod + " " + rec.EnergySource)
	if strings.HasPrefix(rec.EnergySource, "sim/") {
		from += ", simulated"
	}
	t.Row("energy quality", table.OrAbsent(rec.EnergyQuality), "", from)
	t.AlignRight(2)
	t.Render()
}
