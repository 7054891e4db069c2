package sink

import "time"

// Gaps are one stream's gaps between output events, kept where serve was asked to (--keep-gaps): the
// columns itl_* of the request tell their quantiles.
type Gaps struct {
	ID        string
	StartedAt time.Time
	Instance  string
	GapsUs    []uint32
}

// GapsColumns returns the columns of table itl_gaps in their canonical order.
func GapsColumns() []Column[Gaps] {
	return []Column[Gaps]{
		{"id", "", "the request", func(g *Gaps) any { return &g.ID }},
		{"started_at", "", "the request's started_at, which ages the row", func(g *Gaps) any { return &g.StartedAt }},
		{"instance", "", "the wattline that measured it", func(g *Gaps) any { return &g.Instance }},
		{"gaps_us", "us", "time between one output event and the next, in order", func(g *Gaps) any { return &g.GapsUs }},
	}
}
