package queries

import "database/sql"

// Engine is a database with wattline's tables, open for reading.
type Engine struct {
	DB      *sql.DB
	Dialect Dialect
	Path    string            // of the store; "" for ClickHouse
	Explain func(error) error // adds to an error of DB what to do
	Closer  func() error      // closes the database
}

// Close closes the database.
func (e *Engine) Close() error { return e.Closer() }
