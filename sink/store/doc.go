// Package store keeps wattline's rows in one SQLite file, without cgo. Without ClickHouse it is the database, with
// ClickHouse also the outbox: a row is committed here first, gets a ship_seq once it can no longer change, and is shipped
// until its arrival is confirmed.
//
// Open gives the one writer, a Store: it satisfies sink.Store, settles, ships and deletes rows. OpenReader
// gives a Reader, read-only and safe beside a writer in another process. The schema is numbered (schema.go)
// and only migrates forward.
//
// Write has a connection of its own (writeconn.go) that uses the driver without database/sql. Everything rarer goes
// over database/sql, and one lock lets one of the two in at a time.
//
// Failures are returned as *Error: its text says what to do next, and errors.Is finds its kind (ErrFull, ErrDamaged, ...).
package store
