// Package clickhouse ships rows from the store to ClickHouse, each exactly once, and keeps the schema there.
//
// Start at Parse (target.go) for a DSN, Open (client.go) for a client, and NewShipper (shipper.go) for the
// loop that serve runs. delivery.go is how one batch arrives exactly once; table.go and schema.go are the
// tables and their DDL; migrate.go creates, verifies and applies it. Sub-package chtest is a real ClickHouse
// for tests.
//
// # Exactly once
//
// The store fixes a batch before it is sent and hands out the same rows under the same token until the
// batch is confirmed. An INSERT that was answered is certain: one block, written to the disk, async_insert
// off, and on the shard where a distributed table is between. After one that was not answered, the rows
// that carry the batch's token are counted. All there: confirmed. If not, the same INSERT goes out again
// under the same token, which the tables remember for 10,000 batches, so neither a half-committed batch nor
// one that is still on its way can double. If the token was remembered and rows are missing all the same
// (ClickHouse writes the token before the part, and a kill between the two loses the part), the missing
// ones are found by id and sent under a token of their own. A table without the memory is reported by
// Verify; there the counts alone decide, which is safe unless an INSERT arrives after it was counted.
//
// Batches go one at a time, in the order of the store. A table that is missing therefore holds up the rows
// of the others; they wait, and the error says what adds the table.
//
// # Versions
//
// Columns are inserted by name: what the database has beyond this wattline takes its default, null, and
// what it lacks is left out, so neighbouring versions ship into each other's schema. The schema's changes
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
