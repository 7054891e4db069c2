package store

import (
	"context"
	"slices"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// Bounds of what Why looks at.
const (
	whyBefore = 10 * time.Minute   // requests that began so long before may have been in the way
	whyUsual  = 7 * 24 * time.Hour // the agent's usual time is that of so long
	whyRows   = 500
	whyNeeds  = 5 // requests, for a usual time
)

// Why says in a sentence where the time to a request's first token went, from the rows of its neighbours.
func (r *Reader) Why(ctx context.Context, rec *meter.Record) (string, error) {
	near, err := r.List(ctx, Filter{Since: rec.StartedAt.Add(-whyBefore), Until: rec.StartedAt.Add(time.Duration(rec.DurationUs.V) * time.Microsecond), Work: true}, whyRows)
	if err != nil || rec.Agent == "" {
		return sink.Why(rec, near, meter.Int{}), err
	}
	earlier, err := r.List(ctx, Filter{Since: rec.StartedAt.Add(-whyUsual), Until: rec.StartedAt, Agent: rec.Agent, Model: rec.Model, Work: true}, whyRows)
	var usual []int64
	for _, e := range earlier {
		if e.TTFTUs.Valid {
			usual = append(usual, e.TTFTUs.V)
		}
	}
	slices.Sort(usual)
	median := meter.Int{}
	if len(usual) >= whyNeeds {
		median = meter.Some(usual[len(usual)/2])
	}
	return sink.Why(rec, near, median), err
}
