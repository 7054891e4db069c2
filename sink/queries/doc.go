// Package queries holds the SQL that wattline knows by name, in the dialects of both engines: SQLite, as
// package store opens it, and ClickHouse. Both have the same tables and columns, so most texts differ
// only in functions. QUERIES.md beside package sink explains each one.
//
// Usage answers who burns the power; All lists the named queries.
package queries
