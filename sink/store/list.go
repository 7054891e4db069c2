package store

import (
	"context"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// Filter chooses requests. Zero values choose all.
type Filter struct {
	Since, Until          time.Time
	Agent, Session, Model string
	Outcome               meter.Outcome
	Work                  bool          // no housekeeping, and none of replay's own requests
	SlowerThan            time.Duration // total duration above it
	WorseThan             float64       // standard error of the joules above this part of them, or no value beside it; 0: all
}

// where is the condition on requests, and its parameters.
func (f *Filter) where() (text string, args []any) {
	conditions := []string{"started_at >= ?"}
	args = []any{literal(time.Unix(0, 0))}
	if f.Since.Unix() > 0 {
		args[0] = literal(f.Since)
	}
	if !f.Until.IsZero() {
		conditions, args = append(conditions, "started_at < ?"), append(args, literal(f.Until))
	}
	for _, c := range []struct{ column, value string }{{"agent", f.Agent}, {"session", f.Session}, {"model", f.Model}, {"outcome", string(f.Outcome)}} {
		if c.value != "" {
			conditions, args = append(conditions, c.column+" = ?"), append(args, c.value)
		}
	}
	if f.Work {
		conditions = append(conditions, sink.Work)
	}
	if f.SlowerThan > 0 {
		conditions, args = append(conditions, "duration_us > ?"), append(args, f.SlowerThan.Microseconds())
	}
	if f.WorseThan > 0 {
		conditions = append(conditions, `(gpu_sigma_uj > ? * gpu_uj OR gpu_estimate_uj IS NOT NULL OR energy_source LIKE 'rapl/%' AND cpu_sigma_uj > ? * cpu_uj)`)
		args = append(args, f.WorseThan, f.WorseThan)
	}
	return strings.Join(conditions, " AND "), args
}

// List returns up to limit requests that the filter chooses, the newest first.
func (r *Reader) List(ctx context.Context, f Filter, limit int) ([]*meter.Record, error) {
	where, args := f.where()
	recs, _, err := r.requests(ctx, "rowid", "WHERE "+where+" ORDER BY started_at DESC, rowid DESC LIMIT ?", append(args, limit)...)
	return recs, err
}

// Tail returns the latest requests, at most limit, that the filter chooses and whose rows no longer change, in the order in
// which they became final, and where Follow goes on.
func (r *Reader) Tail(ctx context.Context, f Filter, limit int) (recs []*meter.Record, next int64, err error) {
	if err = r.db.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = 'ship_seq'").Scan(&next); err != nil {
		return nil, 0, explain("read", r.path, err)
	}
	where, args := f.where()
	recs, _, err = r.requests(ctx, "ship_seq", "WHERE ship_seq IN (SELECT ship_seq FROM requests WHERE ship_seq <= ? AND "+where+" ORDER BY ship_seq DESC LIMIT ?) ORDER BY ship_seq",
		append(append([]any{next}, args...), limit)...)
	return recs, next, err
}

// Follow returns the requests that the filter chooses among those that have become final since Tail or Follow returned next,
// in that order, at most a chunk of them.
func (r *Reader) Follow(ctx context.Context, f Filter, next int64) ([]*meter.Record, int64, error) {
	where, args := f.where()
	recs, seqs, err := r.requests(ctx, "ship_seq", "WHERE ship_seq > ? AND "+where+" ORDER BY ship_seq LIMIT ?", append(append([]any{next}, args...), chunk)...)
	if len(seqs) > 0 {
		next = seqs[len(seqs)-1]
	}
	return recs, next, err
}
