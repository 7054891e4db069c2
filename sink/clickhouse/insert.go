package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"wattline/sink/store"
)

// arrival says which rows of a batch are in the database, whichever batch brought them.
type arrival struct {
	missing []string // ids of those that are not, in the batch's order
	own     int      // rows that this batch brought, each counted once
	others  int      // rows that other batches brought
	doubled uint64   // rows beyond one for each id
}

// insert sends the rows in one INSERT, as one block under the batch's deduplication token. After an error they may or may
// not have arrived.
func (c *Client) insert(ctx context.Context, t *table, f *foundTable, r *batchRows) error {
	op := fmt.Sprintf("insert %d rows into %s", r.n, t.name)
	cols, err := t.insertable(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.insertTimeout)
	defer cancel()
	return c.target.wrap(op, c.send(c.insertContext(ctx, cols, r.token()), t, cols, r))
}

// insertContext sets the settings of an INSERT. They override settings of the user's DSN.
func (c *Client) insertContext(ctx context.Context, cols []foundColumn, token string) context.Context {
	typed := make([]driver.ColumnNameAndType, len(cols))
	for i, col := range cols {
		typed[i] = driver.ColumnNameAndType{Name: col.name, Type: col.ctype}
	}
	return driver.Context(ctx,
		driver.WithColumnNamesAndTypes(typed), // saves HTTP a DESCRIBE a batch
		driver.WithSettings(driver.Settings{
			// The token names the batch, so that ClickHouse recognises a second INSERT of it, however it splits the blocks.
			"insert_deduplication_token": token,
			"insert_deduplicate":         1,
			// The same for materialized views that the owner attached to the tables.
			"deduplicate_blocks_in_dependent_materialized_views": 1,
			// An answer means that the rows are in a part, not in a buffer of the server ...
			"async_insert": 0,
			// ... and on the shard, not in a queue of the node that was asked.
			"distributed_foreground_insert": 1,
		}))
}

func (c *Client) send(ctx context.Context, t *table, cols []foundColumn, r *batchRows) error {
	names := make([]string, len(cols))
	nullable := make([]bool, len(cols))
	for i, col := range cols {
		names[i] = name(col.name)
		nullable[i] = strings.Contains(col.ctype, "Nullable(")
	}
	batch, err := c.conn.PrepareBatch(ctx, fmt.Sprintf("INSERT INTO %s.%s (%s)", name(c.target.database), name(t.name), strings.Join(names, ", ")))
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }() // no effect after Send; before it, the other error matters
	values := make([]any, len(cols))
	for row := range r.n {
		for i, col := range cols {
			values[i] = r.value(row, col.name, nullable[i])
		}
		if err := batch.Append(values...); err != nil {
			return err
		}
	}
	return batch.Send()
}

// arrived looks for the rows of a batch in the database, by their ids.
func (c *Client) arrived(ctx context.Context, t *table, r *batchRows) (a arrival, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.countTimeout)
	defer cancel()
	ctx = driver.Context(ctx, driver.WithSettings(driver.Settings{
		"max_query_size": maxLookBytes,
		// On a cluster only replicas that lag less than a minute are asked, and a shard that does not answer is an error.
		"max_replica_delay_for_distributed_queries":          int(maxReplicaLag.Seconds()),
		"fallback_to_stale_replicas_for_distributed_queries": 0,
		"skip_unavailable_shards":                            0,
	}))
	there := make(map[string]bool, r.n)
	err = c.each(ctx, c.lookFor(t, r), func(scan func(...any) error) error {
		var id string
		var rows, own uint64
		err := scan(&id, &rows, &own)
		there[id] = true
		if a.doubled += rows - 1; own > 0 {
			a.own++
		} else {
			a.others++
		}
		return err
	})
	for _, id := range r.batch.IDs {
		if !there[id] {
			a.missing = append(a.missing, id)
		}
	}
	return a, c.target.wrap(fmt.Sprintf("look for the rows of batch %s in %s", r.batch.Token, t.name), err)
}

const (
	maxReplicaLag = time.Minute
	maxLookBytes  = 16 << 20 // an id takes 36 to 100 bytes
)

// lookFor returns the query for a batch's rows. The ids alone select them; instance and time narrow the search.
func (c *Client) lookFor(t *table, r *batchRows) string {
	when := ""
	if !t.repeats {
		from, to := r.span(t.time)
		when = fmt.Sprintf(" AND %[1]s >= %[2]s AND %[1]s <= %[3]s", t.time, literal(from), literal(to))
	}
	return fmt.Sprintf("SELECT %s AS key, count(), countIf(batch = %s) FROM %s.%s WHERE instance IN (%s)%s AND key IN (%s) GROUP BY key",
		t.key, quote(r.batch.Token), name(c.target.database), name(t.name), quoteAll(r.instances()), when, quoteAll(r.batch.IDs))
}

func quoteAll(texts []string) string {
	quoted := make([]string, len(texts))
	for i, s := range texts {
		quoted[i] = quote(s)
	}
	return strings.Join(quoted, ", ")
}

func literal(t time.Time) string { return quote(t.UTC().Format(store.TimeLayout)) }
