// Package sink takes finished rows from the traffic to a Store: a bounded Queue that never blocks, and one goroutine that
// writes its rows in batches. Rows that the store cannot take in time are dropped and counted; no error or panic of a store
// reaches the traffic.
//
// Rows are meter.Record (one a request), Power and Ledger (one a second and device) and ServerConfig.
// Their columns (meter.Columns, PowerColumns, LedgerColumns, ConfigColumns) and the derived columns of
// view efficiency (EfficiencyColumns) are defined once and read by every engine.
//
// Sub-packages: store (SQLite, also the outbox for shipping), attribution (joins rows with joules), queries (the
// named queries, for both engines), clickhouse, otlp (traces, and metrics pushed to a collector), metrics (one definition
// for OTLP and Prometheus), semconv (their names) and console (the admin listener).
package sink
