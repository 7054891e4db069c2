// Package columnar answers simple SELECT statements from columns of values instead of rows: a scan of a million requests
// that takes SQLite seconds takes a fraction of one.
//
// Run parses one statement of SQLite's dialect. It answers what it knows (one table or view, WHERE, GROUP BY, HAVING,
// ORDER BY, LIMIT, the usual operators and the aggregates of package store) as SQLite would, and returns ErrUnsupported
// for anything else, so that the caller runs it on SQLite. A list of rows (no aggregates) needs columns that are not kept
// here: Run then finds the rows, and returns a statement that reads only these.
//
// A Source gives the values, block by block. Encode and Decode are a block's columns as package store keeps them.
package columnar
