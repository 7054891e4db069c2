package sink

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
)

// Why says in a sentence where the time to a request's first token went, "" where that is not known. near are requests
// that may have run at the same time, usual is the median time to first token of the agent, null where it is not known.
func Why(rec *meter.Record, near []*meter.Record, usual meter.Int) string {
	total, what := rec.TTFTUs, "first token"
	if rec.Stream.Valid && rec.Stream.V == 0 {
		total, what = rec.DurationUs, "reply"
	}
	if !total.Valid {
		return ""
	}
	var parts []string
	told := func(us int64, format string, args ...any) {
		if us >= max(total.V/50, 1) { // 2 %
			parts = append(parts, seconds(us)+" "+fmt.Sprintf(format, args...))
		}
	}
	told(rec.LoadUs.V, "loading the model")
	if rec.QueueUs.Valid {
		behind, who := waited(rec, near)
		if behind >= max(rec.QueueUs.V/20, 1) {
			told(behind, "behind %s", others(who))
		} else {
			behind = 0
		}
		told(rec.QueueUs.V-behind, "before the server began the prompt (slot, tokenising)")
	}
	if rec.PrefillUs.Valid {
		size := ""
		if n := rec.PromptTokens; n.Valid && rec.CachedTokens.Valid {
			size = fmt.Sprintf(" (%s tokens, %s of them cached)", thousands(n.V), thousands(rec.CachedTokens.V))
		}
		told(rec.PrefillUs.V, "own prompt%s", size)
	}
	if what == "reply" {
		told(rec.DecodeUs.V, "generation")
	}
	if len(parts) == 0 {
		return ""
	}
	text := fmt.Sprintf("%s after %s: %s", what, seconds(total.V), strings.Join(parts, ", "))
	if usual.Valid && what == "first token" {
		text += fmt.Sprintf("; usual for %s: %s", rec.Agent, seconds(usual.V))
	}
	return text
}

// waited is how long the request waited for a server that was at other requests' prompts, and these, the longest first.
func waited(rec *meter.Record, near []*meter.Record) (us int64, who []*meter.Record) {
	from, to, ok := placed(rec, "queue")
	if !ok {
		return 0, nil
	}
	type span struct{ from, to time.Time }
	var spans []span
	for _, n := range near {
		a, b, ok := placed(n, "prefill")
		if !ok || n.ID == rec.ID || n.Upstream != rec.Upstream || !a.Before(to) || !from.Before(b) {
			continue
		}
		if a.Before(from) {
			a = from
		}
		if to.Before(b) {
			b = to
		}
		spans, who = append(spans, span{a, b}), append(who, n)
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	at := from
	for _, s := range spans {
		if s.from.Before(at) {
			s.from = at
		}
		if s.to.After(s.from) {
			us += s.to.Sub(s.from).Microseconds()
			at = s.to
		}
	}
	slices.SortStableFunc(who, func(a, b *meter.Record) int { return int(b.PrefillUs.V - a.PrefillUs.V) })
	return us, who
}

// placed is when a phase of a request began and ended.
func placed(rec *meter.Record, name string) (from, to time.Time, ok bool) {
	for _, s := range rec.Spans() {
		if s.Name == name && s.To().Valid {
			at := func(us int64) time.Time { return rec.StartedAt.Add(time.Duration(us) * time.Microsecond) }
			return at(s.From.V), at(s.To().V), true
		}
	}
	return from, to, false
}

// others names at most three requests.
func others(who []*meter.Record) string {
	const most = 3
	var names []string
	for _, r := range who[:min(most, len(who))] {
		name := r.Agent
		if name == "" {
			name = "unnamed"
		}
		if n := r.PromptTokens; n.Valid {
			name += " " + thousands(n.V)
		}
		names = append(names, name)
	}
	if len(who) > most {
		names = append(names, "...")
	}
	if len(who) == 1 {
		return "another prompt (" + names[0] + " tokens)"
	}
	return fmt.Sprintf("%d other prompts (%s tokens)", len(who), strings.Join(names, ", "))
}

func seconds(us int64) string {
	if us < 1_000_000 {
		return strconv.FormatInt((us+500)/1000, 10) + " ms"
	}
	return strconv.FormatFloat(float64(us)/1e6, 'f', 1, 64) + " s"
}

func thousands(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatFloat(float64(n)/1e3, 'f', 0, 64) + "k"
}
