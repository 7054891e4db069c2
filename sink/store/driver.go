package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"strings"

	"modernc.org/sqlite"
)

// connector opens connections of a driver of its own, so that the functions registered on it are ours
// alone and no package state is needed.
type connector struct {
	driver *sqlite.Driver
	dsn    func() string // for each connection anew
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn()) }
func (c connector) Driver() driver.Driver                        { return c.driver }

// The ways to open a file, as SQLite's URI parameters.
const (
	readWrite = "mode=rw"
	readable  = "mode=ro"
	frozen    = "mode=ro&immutable=1"
)

// pool returns a database handle on path whose connections have our aggregates, run the given pragmas
// first, and obey the guard, if any.
func pool(path, mode string, guard sqlite.AuthorizerFn, pragmas ...string) (*sql.DB, error) {
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
	params := url.Values{"_dqs": {"0"}, "_pragma": pragmas} // a misspelt column must not become a text
	dsn := func() string {
		now := mode
		if mode == frozen && exists(path+"-wal") {
			now = readable // a writer has come
		}
		return "file:" + strings.ReplaceAll(url.PathEscape(path), "%2F", "/") + "?" + now + "&" + params.Encode()
	}
	db := sql.OpenDB(connector{driver: d, dsn: dsn})
	if mode == frozen {
		db.SetMaxIdleConns(-1) // so that each statement asks again
	}
	return db, nil
}
