// Package queries holds wattline's named SQL queries, in the dialects of both engines: SQLite, as
// package store opens it, and ClickHouse. Both have the same tables and columns, so most texts differ
// only in functions. QUERIES.md beside package sink explains each one.
//
// ReadUsage sums energy by client, session, model and so on; All lists the named queries.
package queries
