package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"wattline/sink/store"
)

// arrival counts the rows of a batch in the database.
type arrival struct {
	rows     uint64 // rows with the batch's token
	distinct uint64 // different ids among them
}

// insert sends the rows selected by pick (nil: all) in one INSERT, as one block under the given deduplication token. After
// an error they may or may not have arrived.
func (c *Client) insert(ctx context.Context, t *table, f *foundTable, r *batchRows, pick func(row int) bool, token string) error {
	n := 0
	for i := range r.n {
		if pick == nil || pick(i) {
			n++
		}
	}
	op := fmt.Sprintf("insert %d rows into %s", n, t.name)
	cols, err := t.insertable(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.insertTimeout)
	defer cancel()
	return c.target.wrap(op, c.send(c.insertContext(ctx, cols, token), t, cols, r, pick))
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

func (c *Client) send(ctx context.Context, t *table, cols []foundColumn, r *batchRows, pick func(row int) bool) error {
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
		if pick != nil && !pick(row) {
			continue
		}
		for i, col := range cols {
			values[i] = r.value(row, col.name, nullable[i])
		}
		if err := batch.Append(values...); err != nil {
			return err
		}
	}
	return batch.Send()
}

// arrived counts the rows of a batch that are in the database.
func (c *Client) arrived(ctx context.Context, t *table, r *batchRows) (arrival, error) {
	ctx, cancel := context.WithTimeout(ctx, c.countTimeout)
	defer cancel()
	var a arrival
	err := c.conn.QueryRow(ctx, fmt.Sprintf("SELECT count(), uniqExact(%s) %s", t.key, c.ofBatch(t, r))).Scan(&a.rows, &a.distinct)
	return a, c.target.wrap(fmt.Sprintf("count the rows of batch %s in %s", r.batch.Token, t.name), err)
}

// arrivedIDs lists the ids of a batch's rows that are in the database.
func (c *Client) arrivedIDs(ctx context.Context, t *table, r *batchRows) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.countTimeout)
	defer cancel()
	ids := make(map[string]bool, r.n)
	err := c.each(ctx, fmt.Sprintf("SELECT %s %s", t.key, c.ofBatch(t, r)), func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids[id] = true
		return err
	})
	return ids, c.target.wrap(fmt.Sprintf("list the rows of batch %s in %s", r.batch.Token, t.name), err)
}

// ofBatch returns the FROM and WHERE of a batch's rows. The token alone selects them; instance and time narrow the search.
func (c *Client) ofBatch(t *table, r *batchRows) string {
	quoted := make([]string, 0, 1)
	for _, s := range r.instances() {
		quoted = append(quoted, quote(s))
	}
	from, to := r.span(t.time)
	return fmt.Sprintf("FROM %s.%s WHERE instance IN (%s) AND batch = %s AND %[5]s >= %[6]s AND %[5]s <= %[7]s",
		name(c.target.database), name(t.name), strings.Join(quoted, ", "), quote(r.batch.Token), t.time, literal(from), literal(to))
}

func literal(t time.Time) string { return quote(t.UTC().Format(store.TimeLayout)) }
