// Package clickhouse ships rows from the store to ClickHouse, each exactly once, and keeps the schema there.
//
// Start at ParseDSN (target.go) for a DSN, Open (client.go) for a client, and NewShipper (shipper.go) for the
// loop of serve. delivery.go delivers one batch exactly once; table.go and schema.go have the tables and their DDL;
// migrate.go creates, verifies and applies it. Sub-package chtest is a real ClickHouse for tests.
//
// # Exactly once
//
// The store fixes a batch before it is sent and returns the same rows and token until the batch is confirmed.
// An answered INSERT is certain: one block, written to the disk with async_insert off, and on the shard where
// the table is distributed. After an unanswered one, the rows with the batch's token are counted. If all have
// arrived, the batch is confirmed. If not, the same INSERT is sent again under the same token, which the tables
// remember for 10,000 batches, so neither a half-committed nor a delayed batch is doubled. If the token was
// remembered and rows are still missing (ClickHouse writes the token before the part, and a kill in between
// loses the part), the missing ones are found by id and sent under another token. Verify reports a table without
// this memory; for such a table only the counts decide, which is safe unless an INSERT arrives after the count.
//
// Batches are sent one at a time, in the order of the store. So a missing table delays the rows of all tables;
// they wait, and the error names the command that adds the table.
//
// # Versions
//
// Columns are inserted by name. Columns unknown to this wattline get their default, null, and columns that the
// database lacks are left out, so neighbouring versions can ship into each other's schema. Changes of the schema
// are numbered, only add, and may be repeated. serve creates tables where there are none of ours; changing
// them takes `wattline ddl --apply`.
//
// # When raw rows are no longer enough
//
// There are no roll-ups. A row of requests takes 133 bytes on the disk. A named query costs 0.1 to 0.8 us of
// one core per row it looks at, most about 0.3 (BenchmarkGrowth, chdb 26.5). So with eight cores a month
// is answered within a second up to 10 to 25 million rows: 4 to 10 requests a second, day and night, of the
// whole fleet. Beyond about 5 requests a second, roll-ups by hour begin to pay for boards that look at
// months; single requests, days and the insert (thousands of rows a second on two shared cores) are far
// from any limit there.
package clickhouse
