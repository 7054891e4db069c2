package queries

import (
	"context"
	"database/sql"
	"time"
)

// Engine is a database with wattline's tables, open for reading.
type Engine struct {
	DB      *sql.DB
	Dialect Dialect
	Where   string            // the store's file, or the address of ClickHouse without its password
	Explain func(error) error // adds to an error of DB what to do
	Closer  func() error      // closes the database
}

// Close closes the database.
func (e *Engine) Close() error { return e.Closer() }

// checkTimeout bounds Check.
const checkTimeout = 20 * time.Second

// Check reads a row, so that a database that is damaged, of another version or not there is found at once.
func (e *Engine) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := List{Limit: 1}.Read(ctx, e.DB, e.Dialect)
	return e.Explain(err)
}
