package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"strings"
	"sync"

	"modernc.org/sqlite"
)

// connector opens connections with a driver of its own, so that our functions are registered on it alone and
// not on the process-wide driver.
type connector struct {
	driver *sqlite.Driver
	dsn    func() string // called for each new connection
	blocks blockTables   // nil: queries read the tables alone
	fault  sync.Once
}

// Connect implements driver.Connector.
func (c *connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn())
	if err != nil || c.blocks == nil {
		return conn, err
	}
	sqlite, ok := conn.(sqliteConn)
	if !ok {
		return nil, errors.Join(errors.New("store: this SQLite driver lacks a method of database/sql"), conn.Close())
	}
	return &blockConn{sqlite, c.blocks, &c.fault}, nil
}

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return c.driver }

// The ways to open a file, as parameters of SQLite's URI.
const (
	readWrite = "mode=rw"
	readable  = "mode=ro"
	frozen    = "mode=ro&immutable=1"
)

// newConnector returns a connector to path. Its connections have our aggregate functions, run the pragmas
// first, and obey the guard, if any.
func newConnector(path, mode string, guard sqlite.AuthorizerFn, pragmas []string) (*connector, error) {
	d := new(sqlite.Driver)
	if err := registerFunctions(d); err != nil {
		return nil, err
	}
	if guard != nil {
		d.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, _ string) error {
			a, ok := conn.(sqlite.AuthorizerRegisterer)
			if !ok {
				return errors.New("store: this SQLite driver has no authorizer")
			}
			return a.RegisterAuthorizer(guard)
		})
	}
	params := url.Values{"_dqs": {"0"}, "_pragma": pragmas} // _dqs=0: a misspelt column is an error, not a string
	dsn := func() string {
		now := mode
		if mode == frozen && exists(path+"-wal") {
			now = readable // a writer has opened the store meanwhile
		}
		return "file:" + strings.ReplaceAll(url.PathEscape(path), "%2F", "/") + "?" + now + "&" + params.Encode()
	}
	return &connector{driver: d, dsn: dsn}, nil
}

// openPool returns a pool of newConnector's connections. With blocks its queries may be answered from these.
func openPool(path, mode string, blocks blockTables, guard sqlite.AuthorizerFn, pragmas ...string) (*sql.DB, error) {
	c, err := newConnector(path, mode, guard, pragmas)
	if err != nil {
		return nil, err
	}
	c.blocks = blocks
	db := sql.OpenDB(c)
	if mode == frozen {
		db.SetMaxIdleConns(-1) // each statement connects again, so that dsn checks for a writer
	}
	return db, nil
}
