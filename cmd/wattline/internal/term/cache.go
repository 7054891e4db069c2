package term

import (
	"cmp"
	"database/sql"
	"fmt"
	"io"
	"strings"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/replay/table"
	"wattline/sink/queries"
)

// CacheCulprits prints what computed prompts again, the most expensive first, and what to do about each cause.
func CacheCulprits(w io.Writer, found []queries.Culprit, totals queries.CacheTotals) {
	judged := int64(0)
	for _, n := range totals.Verdicts {
		judged += n
	}
	if judged == 0 {
		fmt.Fprintln(w, "no prompt was judged in this time (serve judges them unless --identify none or --autopsy-memory 0)")
		return
	}
	share := table.Absent
	if totals.Computed > 0 {
		share = table.Number(100*float64(totals.Lost)/float64(totals.Computed)) + " %"
	}
	v := totals.Verdicts
	fmt.Fprintf(w, "%d prompts: %d hit, %d cold, %d lost by the client, %d by the server, %d unknown. Of %d computed prompt tokens %s could have been reused.\n",
		judged, v[cache.Hit], v[cache.Cold], v[cache.Client], v[cache.Server], v[cache.Unknown], totals.Computed, share)
	if len(found) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table.New(w, "cause", "whose", "client", "requests", "lost tokens", "lost time", "lost energy", "last request")
	var causes []string
	for _, c := range found {
		energy := table.Absent
		if c.Joules.Valid {
			sigma := table.Absent
			if c.Sigma.Valid {
				sigma = table.Number(c.Sigma.V)
			}
			energy = table.Number(c.Joules.V) + " ± " + sigma + " J"
		}
		t.Row(words(c.Cause), c.Whose, c.Client, fmt.Sprint(c.Requests), fmt.Sprint(c.Tokens), seconds(c.Seconds), energy, shortID(c.Last))
		if len(causes) == 0 || !contains(causes, c.Cause) {
			causes = append(causes, c.Cause)
		}
	}
	t.AlignRight(4, 5, 6, 7)
	t.Render()
	fmt.Fprintln(w)
	for _, c := range causes {
		if a := cache.Advice(c); a != "" {
			fmt.Fprintf(w, "%s: %s\n", words(c), a)
		}
	}
}

func contains(list []string, v string) bool {
	for _, s := range list {
		if s == v {
			return true
		}
	}
	return false
}

// words is a cause as people read it.
func words(cause string) string { return strings.ReplaceAll(cause, "_", " ") }

func seconds(s sql.Null[float64]) string {
	if !s.Valid {
		return table.Absent
	}
	return table.Number(s.V) + " s"
}

// CacheRequest explains one request's verdict.
func CacheRequest(w io.Writer, rec *meter.Record) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", what, table.Printable(fmt.Sprintf(format, args...)))
	}
	line("request", "%s", rec.ID)
	if rec.CacheVerdict == "" {
		line("verdict", "none: the request was not judged (it generated nothing, failed, or serve was told not to judge)")
		return
	}
	verdict := rec.CacheVerdict
	if rec.CacheCause != "" {
		verdict += ", " + words(rec.CacheCause)
	}
	if rec.CachePart != "" {
		verdict += ", in " + rec.CachePart
	}
	line("verdict", "%s", verdict)
	d := rec.Details
	if d == nil {
		d = &meter.Details{}
	}
	if d.CacheWhy != "" {
		line("why", "%s", d.CacheWhy)
	}
	if d.CachePredecessor != "" {
		line("compared", "with request %s; both begin with the same %s bytes, some %s tokens", d.CachePredecessor, table.Count(d.CacheMatchedBytes), table.Count(d.CacheMatchedTokens))
	}
	if d.CacheTakenBy != "" {
		line("taken by", "request %s", d.CacheTakenBy)
	}
	line("tokens", "%s in the prompt, %s reused, %s expected, %s lost", table.Count(rec.PromptTokens), table.Count(rec.CachedTokens), plusMinus(rec.CacheExpectedTokens, d.CacheExpectedSigma), table.Count(rec.CacheLostTokens))
	if rec.CacheLostTokens.V > 0 {
		energy := "no joules are known"
		if rec.CacheLostUj.Valid {
			energy = table.InUnit(rec.CacheLostUj, 1e6, "") + "± " + table.InUnit(rec.CacheLostSigmaUj, 1e6, "J")
		}
		line("cost", "%s of prefill, %s", ms(rec.CacheLostUs), energy)
		if a := cache.Advice(rec.CacheCause); a != "" {
			line("what to do", "%s", a)
		}
	}
}

func plusMinus(n, sigma meter.Int) string {
	if !sigma.Valid {
		return table.Count(n)
	}
	return table.Count(n) + " ± " + table.Count(sigma)
}

// ribbonWidth is the width of the longest prompt of a session in characters.
const ribbonWidth = 48

// CacheSession prints a session as a ribbon of turns: # was reused, + was new, ! was computed again though it could have been
// reused. recs come newest first.
func CacheSession(w io.Writer, recs []*meter.Record) {
	longest := int64(1)
	for _, r := range recs {
		longest = max(longest, r.PromptTokens.V)
	}
	fmt.Fprintf(w, "session %s: █ reused, ░ new, ! computed again\n", table.Printable(cmp.Or(recs[0].Session, "-")))
	t := table.New(w, "started", "id", "prompt", "reused", "lost", "prompt tokens", "verdict")
	for i := len(recs) - 1; i >= 0; i-- {
		r := recs[i]
		if !r.PromptTokens.Valid && r.CacheVerdict == "" {
			continue
		}
		verdict := r.CacheVerdict
		for _, s := range []string{words(r.CacheCause), r.CachePart} {
			if s != "" {
				verdict += ", " + s
			}
		}
		t.Row(r.StartedAt.Local().Format("15:04:05"), shortID(r.ID), table.Count(r.PromptTokens), table.Count(r.CachedTokens), table.Count(r.CacheLostTokens), ribbon(r, longest), table.OrAbsent(verdict))
	}
	t.AlignRight(3, 4, 5)
	t.Render()
}

// ribbon draws a turn's prompt.
func ribbon(r *meter.Record, longest int64) string {
	wide := func(n int64) int { return int(n * ribbonWidth / longest) }
	all := max(wide(r.PromptTokens.V), 1)
	reused := min(wide(r.CachedTokens.V), all)
	lost := 0
	if r.CacheLostTokens.V > 0 {
		lost = min(max(wide(r.CacheLostTokens.V), 1), all-reused)
	}
	return strings.Repeat("█", reused) + strings.Repeat("!", lost) + strings.Repeat("░", all-reused-lost)
}
