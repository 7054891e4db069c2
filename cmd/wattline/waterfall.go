package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

// span is one bar of the waterfall: from and to in microseconds after P0.
type span struct {
	name, formula string
	from, to      int64
	length        meter.Int // as stored; a bar is only drawn where it and its place are known
	placed        bool
}

// spans places a request's phases on the time since P0. Marks are not stored, the differences between
// them are: P1 = ttft - upstream_ttft, S = P1 + queue, T1 = ttft; of a request that was not streamed,
// S = duration - decode - prefill.
func spans(r *meter.Record) []span {
	queue := span{name: "queue", formula: "S - P1", length: r.QueueUs}
	prefill := span{name: "prefill", formula: "server's prompt_ms", length: r.PrefillUs}
	decode := span{name: "decode", formula: "Tn - T1", length: r.DecodeUs}
	if r.Stream.Valid && r.Stream.V == 0 {
		decode.formula = "server's predicted_ms"
		decode.place(meter.Some(r.DurationUs.V-r.DecodeUs.V), r.DurationUs.Valid && r.DecodeUs.Valid)
		prefill.place(meter.Some(decode.from-r.PrefillUs.V), decode.placed)
		queue.place(meter.Some(prefill.from-r.QueueUs.V), prefill.placed)
		return []span{queue, prefill, decode}
	}
	sent := meter.Int{V: r.TTFTUs.V - r.UpstreamTTFTUs.V, Valid: r.TTFTUs.Valid && r.UpstreamTTFTUs.Valid}
	queue.place(sent, sent.Valid)
	prefill.place(meter.Some(queue.to), queue.placed)
	decode.place(r.TTFTUs, r.TTFTUs.Valid)
	return []span{queue, prefill, decode}
}

func (s *span) place(from meter.Int, known bool) {
	if !known || !from.Valid || !s.length.Valid {
		return
	}
	s.from, s.to, s.placed = from.V, from.V+s.length.V, true
}

// waterfallWidth is how many characters the whole request takes.
const waterfallWidth = 60

// bar draws from..to of a whole of total microseconds; a phase too short for its cell still shows. What lies
// outside is cut off: the places come out of differences, so that a decode phase, for one, is drawn later by
// what the first flush took, and would end behind the end.
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

// waterfall prints one request: when what happened, how much, and what it cost.
func waterfall(a *app, r *store.Reader, rec *meter.Record) error {
	w := a.stdout
	fmt.Fprintf(w, "request %s\n", rec.ID)
	for _, line := range [][2]string{
		{"started", rec.StartedAt.Local().Format(time.RFC3339Nano)},
		{"what", strings.TrimSpace(rec.Method + " " + rec.Path + " " + rec.Model)},
		{"outcome", strings.TrimSpace(outcome(rec) + " " + rec.FinishReason)},
		{"error", rec.Error},
		{"who", who(rec)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%-9s%s\n", line[0], line[1])
		}
	}
	fmt.Fprintln(w)
	t := newTable(w, "mark or phase", "formula", "length", "0 "+strings.Repeat("-", waterfallWidth-4-len(ms(rec.DurationUs)))+" "+ms(rec.DurationUs))
	row := func(s span) {
		drawn := ""
		if s.placed {
			drawn = bar(s.from, s.to, rec.DurationUs.V)
		}
		t.AppendRow([]any{s.name, s.formula, ms(s.length), drawn})
	}
	mark := func(name, formula string, at meter.Int) {
		row(span{name: name, formula: formula, from: at.V, to: at.V, length: at, placed: at.Valid})
	}
	for _, s := range spans(rec) {
		row(s)
	}
	mark("head (ttfb)", "H - P0", rec.TTFBUs)
	mark("first token (ttft)", "W1 - P0", rec.TTFTUs)
	if rec.TTFOUs.Valid && rec.TTFOUs != rec.TTFTUs {
		mark("first answer (ttfo)", "O1 - P0", rec.TTFOUs)
	}
	mark("end (duration)", "E - P0", rec.DurationUs)
	rightAligned(t, 3)
	t.Render()
	fmt.Fprintln(w)
	return details(a, r, rec)
}

func who(r *meter.Record) string {
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

// details prints what view efficiency derives from the row, each figure beside its formula, and the
// token counts. Figures already drawn as bars, and those not obtained, are left out.
func details(a *app, r *store.Reader, rec *meter.Record) error {
	derived, err := r.Efficiency(a.ctx, rec.ID)
	if err != nil {
		return err
	}
	t := newTable(a.stdout, "figure", "value", "unit", "formula")
	for _, c := range []struct {
		name, doc string
		n         meter.Int
	}{
		{"prompt tokens", "cached ones included", rec.PromptTokens},
		{"cached tokens", "reused from the cache", rec.CachedTokens},
		{"output tokens", "counted by: " + orAbsent(rec.TokenSource), rec.OutputTokens},
	} {
		t.AppendRow([]any{c.name, count(c.n), "", c.doc})
	}
	drawn := []string{"ttfb_ms", "ttft_ms", "ttfo_ms", "duration_ms", "queue_ms", "prefill_ms", "decode_ms"}
	for _, c := range sink.EfficiencyColumns() {
		if v, ok := derived[c.Name]; ok && !slices.Contains(drawn, c.Name) {
			t.AppendRow([]any{c.Name, significant(v), c.Unit, c.Doc})
		}
	}
	from := strings.TrimSpace(rec.EnergyMethod + " " + rec.EnergySource)
	if strings.HasPrefix(rec.EnergySource, "sim/") {
		from += ", simulated"
	}
	t.AppendRow([]any{"energy quality", orAbsent(rec.EnergyQuality), "", from})
	rightAligned(t, 2)
	t.Render()
	return nil
}
