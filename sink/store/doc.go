// Package store keeps wattline's rows in one SQLite file, without cgo. It is the database where nothing
// else is configured, and the outbox from which rows are shipped where something is: a row is committed
// here first, gets a ship_seq once it can no longer change, and waits until its arrival is confirmed.
//
// Open gives the one writer, a Store: it satisfies sink.Store, settles, ships and deletes rows. OpenReader
// gives a Reader, read-only and safe beside a writer in another process. The file is found through
// nothing but its path; its schema is numbered (schema.go) and only ever moves forward.
//
// Write has a connection of its own (writeconn.go) that uses the driver without database/sql. Everything rarer goes
// over database/sql, and one lock lets one of the two in at a time.
//
// What goes wrong comes back as *Error, whose text says what to do next and whose kind (ErrFull,
// ErrDamaged, ...) errors.Is finds.
package store
