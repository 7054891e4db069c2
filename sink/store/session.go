package store

import (
	"context"

	"wattline/meter"
	"wattline/sink"
)

// sessionRows bounds the rows of a session that are read.
const sessionRows = 100_000

// Session returns the requests of the session that has one of the names, the newest first; "last" is the session of the
// latest request that has one and is neither housekeeping nor replay's own.
func (r *Reader) Session(ctx context.Context, names ...string) ([]*meter.Record, error) {
	if names[0] == "last" {
		recs, _, err := r.requests(ctx, "rowid", "WHERE session IS NOT NULL AND "+sink.Work+" ORDER BY started_at DESC, rowid DESC LIMIT 1")
		if err != nil || len(recs) == 0 {
			return nil, err
		}
		names = []string{recs[0].Session}
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if recs, err := r.List(ctx, Filter{Session: name}, sessionRows); err != nil || len(recs) > 0 {
			return recs, err
		}
	}
	return nil, nil
}
