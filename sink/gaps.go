package sink

import "time"

// MaxGaps is how many gaps are kept of one request. Details.GapsCut of its row counts the others.
const MaxGaps = 1 << 16

// Gaps are one stream's gaps between output events, kept where serve was asked to (--keep-gaps). The columns itl_* of the
// request hold their quantiles.
type Gaps struct {
	ID        string
	StartedAt time.Time
	Instance  string
	Model     string // of the request, so that no query has to look for its row
	GapsUs    []uint32
}

// GapsColumns returns the columns of table itl_gaps in their canonical order.
func GapsColumns() []Column[Gaps] {
	return []Column[Gaps]{
		{1, "id", "", "the request", func(g *Gaps) any { return &g.ID }},
		{1, "started_at", "", "the request's started_at, which ages the row", func(g *Gaps) any { return &g.StartedAt }},
		{1, "instance", "", "the wattline that measured it", func(g *Gaps) any { return &g.Instance }},
		{1, "gaps_us", "us", "time between one output event and the next, in order", func(g *Gaps) any { return &g.GapsUs }},
		{2, "model", "", "the request's model; null in rows of schema version 1", func(g *Gaps) any { return &g.Model }},
	}
}
