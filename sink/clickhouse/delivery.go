package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"time"

	"wattline/sink/store"
)

// outcome is how a batch was delivered.
type outcome struct {
	foundComplete bool // an earlier send had delivered it
	resent        bool // sent again under its own token
	refilled      bool // missing rows were sent under another token
	doubled       uint64
}

// delivery delivers single batches to the database, each exactly once.
type delivery struct {
	client   *Client
	instance string
	begin    func(ctx context.Context, seq int64) error
	log      *slog.Logger
	schema   schema

	// Limit of a refill's wait for rows that another replica may have.
	replicaLag time.Duration

	found    map[string]*foundTable // as of the last look
	findings []string               // differences of the schema, as of the last look
}

// look reads the schema, and creates it first where there is none.
func (d *delivery) look(ctx context.Context) error {
	created, findings, err := d.client.ensure(ctx, d.schema)
	if err != nil {
		return err
	}
	if created {
		d.log.Info("created wattline's tables in ClickHouse", "target", d.client.target, "schema_version", d.schema.version)
	}
	if !slices.Equal(findings, d.findings) {
		for _, f := range findings {
			d.log.Warn("ClickHouse's schema differs; `wattline ddl --apply` can bring it up to date", "finding", f)
		}
		d.findings = findings
	}
	d.found, err = d.client.inspect(ctx)
	return err
}

// deliver returns when every row of the batch is in the database exactly once, or with an error after
// which the same batch must be delivered again.
//
// A first send that is answered is certain. After an unanswered one, rows may have arrived or may still arrive, so they are
// counted. If some are missing, the same INSERT is sent again under the same token; ClickHouse executes it or recognises the
// token, so rows that arrive late are not doubled. If it recognised the token and rows are still missing (it wrote its
// deduplication log and died before it wrote the rows), the missing ones are sent under another token.
func (d *delivery) deliver(ctx context.Context, b *store.Batch) (out outcome, err error) {
	t, f := d.schema.table(b.Table), d.found[b.Table]
	if t == nil || f == nil {
		return out, missingTable(d.client.target.database, b.Table)
	}
	r, err := rowsOf(b, d.instance)
	if err != nil {
		return out, err
	}
	uncertain := b.Sends > 0
	if uncertain {
		a, err := d.client.arrived(ctx, t, r)
		if err != nil {
			return out, err
		}
		if out.doubled = d.checkDoubled(b, a); a.distinct == uint64(r.n) {
			out.foundComplete = true
			return out, nil
		}
		out.resent = true
	}
	if err := d.begin(ctx, b.Seq); err != nil {
		return out, err
	}
	if err := d.client.insert(ctx, t, f, r, nil, r.token()); err != nil || !uncertain {
		return out, err
	}
	a, err := d.client.arrived(ctx, t, r)
	if err == nil && a.distinct < uint64(r.n) {
		out.refilled, err = d.refill(ctx, t, f, r)
	}
	if err != nil {
		return out, err
	}
	out.doubled = d.checkDoubled(b, a)
	return out, nil
}

// refill sends the rows that are missing although ClickHouse remembers the batch's token.
func (d *delivery) refill(ctx context.Context, t *table, f *foundTable, r *batchRows) (sent bool, err error) {
	if f.replicated() {
		if err := d.awaitReplicas(ctx, t, r); err != nil {
			return false, err
		}
	}
	there, err := d.client.arrivedIDs(ctx, t, r)
	if err != nil {
		return false, err
	}
	var missing []string
	for _, id := range r.batch.IDs {
		if !there[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return false, nil
	}
	d.log.Warn("ClickHouse remembers a batch of which it lost rows; sending those again",
		"table", t.name, "batch", r.batch.Token, "rows", r.n, "missing", len(missing))
	sum := sha256.Sum256([]byte(r.token() + "\n" + strings.Join(missing, "\n")))
	return true, d.client.insert(ctx, t, f, r, func(row int) bool { return !there[r.batch.IDs[row]] }, hex.EncodeToString(sum[:16]))
}

// awaitReplicas waits until the batch is complete here, or d.replicaLag has passed.
func (d *delivery) awaitReplicas(ctx context.Context, t *table, r *batchRows) error {
	ctx, cancel := context.WithTimeout(ctx, d.replicaLag)
	defer cancel()
	for pause := firstPause; ; pause *= 2 {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		a, err := d.client.arrived(ctx, t, r)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || a.distinct == uint64(r.n) {
			return err
		}
	}
}

// checkDoubled counts and logs rows that arrived more than once. They cannot be removed from here.
func (d *delivery) checkDoubled(b *store.Batch, a arrival) uint64 {
	if a.rows <= a.distinct {
		return 0
	}
	d.log.Error("ClickHouse has rows of a batch more than once: its table keeps no deduplication log (`wattline ddl --verify`)",
		"table", b.Table, "batch", b.Token, "rows", a.rows, "expected", len(b.IDs))
	return a.rows - a.distinct
}
