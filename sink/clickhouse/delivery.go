package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"wattline/sink/store"
)

// outcome is how a batch was delivered.
type outcome struct {
	missing       []string // ids of rows that are to wait for another batch
	foundComplete bool     // all rows were there already
	resent        bool     // sent again under its own token
	doubled       uint64
}

// destination is where rows are delivered; *Client is one.
type destination interface {
	ensure(ctx context.Context, s schema) (created bool, findings []string, err error)
	inspect(ctx context.Context) (map[string]*foundTable, error)
	arrived(ctx context.Context, t *table, r *batchRows) (arrival, error)
	insert(ctx context.Context, t *table, f *foundTable, r *batchRows) error
	Target() *Target
}

// delivery delivers single batches to the database, each row exactly once.
type delivery struct {
	db       destination
	instance string
	log      *slog.Logger
	schema   schema
	settle   time.Duration // so long after an INSERT its rows are to be seen, or never will be

	found    map[string]*foundTable // as of the last look
	findings []string               // differences of the schema, as of the last look

	// The last INSERT of which rows may be on their way. At first it is one that an earlier process may have sent until now.
	last struct {
		batch    int64 // 0: unknown
		at       time.Time
		answered bool
	}
}

// settleTime is the default of delivery.settle. A batch takes a tenth of a second.
const settleTime = 2 * time.Minute

// look reads the schema, and creates it first where there is none.
func (d *delivery) look(ctx context.Context) error {
	created, findings, err := d.db.ensure(ctx, d.schema)
	if err != nil {
		return err
	}
	if created {
		d.log.Info("created wattline's tables in ClickHouse", "target", d.db.Target(), "schema_version", d.schema.version)
	}
	if !slices.Equal(findings, d.findings) {
		for _, f := range findings {
			d.log.Warn("ClickHouse's schema differs; `wattline ddl --apply` can bring it up to date", "finding", f)
		}
		d.findings = findings
	}
	d.found, err = d.db.inspect(ctx)
	return err
}

// deliver returns when every row of the batch is in the database exactly once, but for those that the outcome says are
// missing. After an error the same batch must be delivered again.
//
// Before it sends anything it looks for the rows by their ids. A batch of which no row is there is sent whole. If that gets no
// answer, the same INSERT is sent again under the same token: ClickHouse executes it or recognises the token, so rows that
// arrive late are not doubled. Where that may not hold, since other batches brought some of the rows (the store's file is a
// copy of an earlier time) or the token may be forgotten, nothing is sent: once no INSERT can be under way, the rows that are
// missing get a batch of their own.
func (d *delivery) deliver(ctx context.Context, b *store.Batch) (out outcome, err error) {
	t, f := d.schema.table(b.Table), d.found[b.Table]
	if t == nil || f == nil {
		return out, missingTable(d.db.Target().database, b.Table)
	}
	r, err := rowsOf(b, d.instance)
	if err != nil {
		return out, err
	}
	a, err := d.db.arrived(ctx, t, r)
	if err != nil {
		return out, err
	}
	out.doubled = d.checkDoubled(b, a)
	justSent := d.last.batch == b.Seq && !d.settled()
	switch {
	case len(a.missing) == 0:
		out.foundComplete = true
		return out, nil
	case a.others > 0, a.own > 0 && !justSent, d.last.batch == b.Seq && d.last.answered:
		return d.giveBack(b, a, out)
	}
	err = d.db.insert(ctx, t, f, r)
	if out.resent = b.Again; err == nil && (!b.Again || f.replicated()) {
		return out, nil // a replicated table has the rows if it has the token: a replica that lacks them lags
	}
	d.last.batch, d.last.at, d.last.answered = b.Seq, time.Now(), err == nil
	if err != nil {
		return out, err
	}
	// ClickHouse writes its deduplication log before the rows; a crash in between loses them.
	if a, err = d.db.arrived(ctx, t, r); err != nil {
		return out, err
	}
	if out.doubled = d.checkDoubled(b, a); len(a.missing) > 0 {
		return d.giveBack(b, a, out)
	}
	return out, nil
}

func (d *delivery) settled() bool { return time.Since(d.last.at) >= d.settle }

// giveBack ends a batch of which rows are missing, once no INSERT can be under way.
func (d *delivery) giveBack(b *store.Batch, a arrival, out outcome) (outcome, error) {
	if !d.settled() {
		return out, fmt.Errorf("clickhouse: %d of %d rows of batch %s are not in %s, and an INSERT of an earlier time may still bring them: waiting until %v after it",
			len(a.missing), len(b.IDs), b.Token, b.Table, d.settle)
	}
	why := "ClickHouse lost rows of a batch; they are sent again"
	if a.others > 0 {
		why = "the store went back in time: ClickHouse already has rows that wait here; only the others are sent"
	}
	d.log.Warn(why, "table", b.Table, "batch", b.Token, "rows", len(b.IDs), "missing", len(a.missing))
	out.missing = a.missing
	return out, nil
}

// checkDoubled counts and logs rows that are there more than once. They cannot be removed from here.
func (d *delivery) checkDoubled(b *store.Batch, a arrival) uint64 {
	if a.doubled > 0 {
		d.log.Error("ClickHouse has rows more than once: their table keeps no deduplication log (`wattline ddl --verify`), or a replica lagged for more than a minute",
			"table", b.Table, "batch", b.Token, "expected", len(b.IDs), "more", a.doubled)
	}
	return a.doubled
}
