package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
)

// Client is a pool of connections to a Target. Opening one connects to nothing yet. Its methods are safe
// for concurrent use.
type Client struct {
	target *Target
	conn   driver.Conn
	// Limits of one INSERT and of one count of arrived rows. The driver then closes the connection.
	insertTimeout, countTimeout time.Duration
}

// The timeouts are generous: a batch takes a tenth of a second, and a timeout causes a second send.
const (
	insertTimeout = time.Minute
	countTimeout  = time.Minute
)

// Open makes a client. Close it.
func Open(t *Target) (*Client, error) {
	conn, err := driver.Open(t.options)
	if err != nil {
		return nil, t.wrap("open", err)
	}
	return &Client{target: t, conn: conn, insertTimeout: insertTimeout, countTimeout: countTimeout}, nil
}

// Close closes the connections.
func (c *Client) Close() error { return c.target.wrap("close", c.conn.Close()) }

// Target returns the server that the client connects to.
func (c *Client) Target() *Target { return c.target }

// DB returns a database/sql handle for reading: statements name tables without the database, and cannot change anything; the
// missing side of an outer join is null, as in standard SQL. Close it.
func (t *Target) DB() *sql.DB {
	o := *t.options
	o.Auth.Database = t.database
	o.Settings = driver.Settings{"join_use_nulls": 1, "readonly": 2}
	maps.Copy(o.Settings, t.options.Settings)
	return driver.OpenDB(&o)
}

// Explain turns an error of a statement run on DB into a sentence without any password. The statement may be the user's, so
// an unknown name does not mean that the schema is incomplete.
func (t *Target) Explain(op string, err error) error {
	hint := ""
	if exception, ok := errors.AsType[*driver.Exception](err); ok {
		switch exception.Code {
		case codeNoSuchColumn, codeUnknownIdent:
			hint = "tables: requests, power, ledger, configs, itl_gaps, view: efficiency, columns: `DESCRIBE requests`; for an older database, `wattline ddl --verify` lists what it lacks"
		case codeReadOnly:
			hint = "this connection only reads: use SELECT; rows are written by `wattline serve` alone"
		}
		if hint != "" {
			return &Error{Op: op, Code: exception.Code, text: t.redact(exception.Message) + "; " + hint}
		}
	}
	return t.wrap(op, err)
}

// exec runs one statement that returns nothing.
func (c *Client) exec(ctx context.Context, op, statement string) error {
	return c.target.wrap(op, c.conn.Exec(ctx, statement))
}

// foundColumn is one column of a table in ClickHouse.
type foundColumn struct{ name, ctype string }

// foundTable is one table of the database.
type foundTable struct {
	engine  string
	create  string // its CREATE statement, which shows its settings
	columns []foundColumn
}

func (f *foundTable) column(name string) *foundColumn {
	for i := range f.columns {
		if f.columns[i].name == name {
			return &f.columns[i]
		}
	}
	return nil
}

// replicated reports whether rows accepted by one replica may not be visible on another yet.
func (f *foundTable) replicated() bool {
	return f.engine == "Distributed" || strings.HasPrefix(f.engine, "Replicated") || strings.HasPrefix(f.engine, "Shared")
}

// inspectTimeout bounds each look at the schema.
const inspectTimeout = 30 * time.Second

// inspect reads the tables and columns of the database. A missing database has none.
func (c *Client) inspect(ctx context.Context) (map[string]*foundTable, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	found := map[string]*foundTable{}
	op := "read the schema of database " + c.target.database
	ctx = driver.Context(ctx, driver.WithParameters(driver.Parameters{"db": c.target.database}))
	err := c.each(ctx, "SELECT name, engine, create_table_query FROM system.tables WHERE database = {db:String}", func(scan func(...any) error) error {
		var table string
		t := new(foundTable)
		if err := scan(&table, &t.engine, &t.create); err != nil {
			return err
		}
		found[table] = t
		return nil
	})
	if err != nil {
		return nil, c.target.wrap(op, err)
	}
	err = c.each(ctx, "SELECT table, name, type FROM system.columns WHERE database = {db:String} ORDER BY table, position", func(scan func(...any) error) error {
		var table string
		var col foundColumn
		if err := scan(&table, &col.name, &col.ctype); err != nil {
			return err
		}
		if t := found[table]; t != nil {
			t.columns = append(t.columns, col)
		}
		return nil
	})
	if err != nil {
		return nil, c.target.wrap(op, err)
	}
	return found, nil
}

// each runs a query and calls f with each row's Scan.
func (c *Client) each(ctx context.Context, query string, f func(scan func(...any) error) error) (err error) {
	rows, err := c.conn.Query(ctx, query)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
	}()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// schemaVersion returns the newest version applied to the database, 0 if none was.
func (c *Client) schemaVersion(ctx context.Context, found map[string]*foundTable) (int, error) {
	if found[versionTable] == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	var v uint32
	err := c.conn.QueryRow(ctx, fmt.Sprintf("SELECT max(version) FROM %s.%s", name(c.target.database), name(versionTable))).Scan(&v)
	return int(v), c.target.wrap("read the schema's version", err)
}
