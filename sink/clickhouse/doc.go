// Package clickhouse ships rows from the store to ClickHouse, each exactly once, and keeps the schema there.
//
// Start at ParseDSN (target.go) for a DSN, Open (client.go) for a client, and NewShipper (shipper.go) for the
// loop of serve. delivery.go delivers one batch exactly once; table.go and schema.go have the tables and their DDL;
// migrate.go creates, verifies and applies it. Sub-package chtest is a real ClickHouse for tests.
//
// # Exactly once
//
// The store fixes a batch on the disk before it is sent, and returns the same rows and token until the batch is confirmed.
// Before each send the rows are looked for in ClickHouse by their ids, whichever batch brought them. If all are there, the batch
// is confirmed. If none is, it is sent: one block under its token, with async_insert off, and on the shard where the table is
// distributed. An answer confirms it. A send without an answer is repeated under the same token, which the tables
// remember for 10,000 batches, so a delayed INSERT does not double rows.
//
// Otherwise nothing is sent under that token. Some of the rows may be there because a crash of ClickHouse came between two
// partitions, or because the store's file went back in time (a restored backup or snapshot) and has put rows that were
// shipped into other batches. Or none is there although the token is remembered: ClickHouse writes its deduplication log
// before the part, and a crash in between loses the part. Then the shipper waits until an INSERT of an earlier time cannot
// be under way any more (two minutes), looks again, and lets the missing rows wait for another batch. Replicated tables
// commit token and part in one transaction of Keeper: there a remembered token confirms the batch, and rows that
// are not seen are on another replica.
//
// What this promises, and what it does not: every row that the store has committed and that neither its size limit nor a loss of
// the file took arrives exactly once
//
//   - on one server, as long as an INSERT whose client has gone ends within two minutes, and no more than 10,000 INSERTs of
//     other hosts come in within these two minutes. Older tokens are not relied on.
//   - on a cluster, if besides no replica that is read lags by more than a minute; replicas that do are not asked through a
//     distributed table. An INSERT is answered by one replica: if that is lost for good before the others have fetched the
//     part, so are the rows. insert_quorum=auto in the DSN makes the answer wait for a majority.
//   - when a copy of the store's file is put back, if that happens two minutes after the last INSERT. Two copies that ship at the
//     same time are not protected from each other; InstanceConflict warns of them.
//
// A table without deduplication log, which Verify reports, has only the looks.
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
