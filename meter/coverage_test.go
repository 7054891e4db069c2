package meter_test

import (
	"fmt"
	"slices"
	"strings"

	"wattline/meter"
)

// coverage says of one kind of request which columns it gives and how: exact (the server's own number,
// or our own stamp), derived (from stamps, where a server's number would be better), a lower bound, or
// absent.
type coverage struct {
	kind    string
	dialect string
	cells   []string
}

const (
	exact   = "exact"
	derived = "derived"
	bound   = ">=" // output_events only: a lower bound
	absent  = "-"
)

// coverageColumns are the table's columns, in the order of coverageOf's cells.
var coverageColumns = []string{"model", "finish", "prompt", "cached", "output", "draft", "ttft", "ttfo", "queue", "prefill", "decode", "itl", "source", "error"}

func coverageOf(tr *transcript, o outcome) coverage {
	r, d := o.Record, o.details()
	output := have(r.OutputTokens.Valid)
	if r.TokenSource == meter.TokensFromEvents {
		output = bound
	}
	phase := func(i meter.Int, source string) string {
		switch {
		case !i.Valid:
			return absent
		case source == meter.SourceServer || source == meter.SourceProgress:
			return exact
		}
		return derived
	}
	queue := absent
	if r.QueueUs.Valid || d.NegativeQueue.Valid {
		queue = derived
	}
	source := r.TokenSource
	if source == "" {
		source = absent
	}
	dialect := r.Dialect
	if dialect == "" {
		dialect = absent
	}
	return coverage{strings.TrimPrefix(tr.Name, "llama-server/"), dialect, []string{
		have(r.Model != ""), have(r.FinishReason != ""), have(r.PromptTokens.Valid), have(r.CachedTokens.Valid), output,
		have(r.DraftTokens.Valid && r.DraftAcceptedTokens.Valid), have(r.TTFTUs.Valid), have(r.TTFOUs.Valid), queue,
		phase(r.PrefillUs, d.PrefillSource), phase(r.DecodeUs, d.DecodeSource), have(r.ITLP50Us.Valid), source, have(r.Error != ""),
	}}
}

func have(ok bool) string {
	if ok {
		return exact
	}
	return absent
}

func table(rows []coverage) string {
	var b strings.Builder
	width := len("kind")
	for _, r := range rows {
		width = max(width, len(r.kind))
	}
	line := func(kind, dialect string, cells []string) {
		l := fmt.Sprintf("%-*s %-13s", width, kind, dialect)
		for _, c := range cells {
			l += fmt.Sprintf(" %-7s", c)
		}
		b.WriteString(strings.TrimRight(l, " ") + "\n")
	}
	line("kind", "dialect", coverageColumns)
	sortRows(rows)
	for _, r := range rows {
		line(r.kind, r.dialect, r.cells)
	}
	return b.String()
}

func sortRows(rows []coverage) {
	slices.SortFunc(rows, func(a, b coverage) int { return strings.Compare(a.kind, b.kind) })
}
