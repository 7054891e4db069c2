// Package sink takes finished rows from the traffic and keeps them: a bounded Queue that never blocks,
// and one goroutine that writes what it holds to a Store in batches. What the store cannot take in time
// is dropped and counted; no error or panic of a store reaches the traffic.
//
// Rows are meter.Record (one a request), Power and Ledger (one a second and device) and ServerConfig.
// Their columns (meter.Columns, PowerColumns, LedgerColumns, ConfigColumns) and the derived columns of
// view efficiency (EfficiencyColumns) are defined once and read by every engine.
//
// Sub-packages: store (SQLite, also the outbox for shipping), settle (joins rows with joules), queries
// (the named queries, in both engines' dialects), clickhouse, otlp (traces, and metrics pushed to a
// collector), metrics (one definition for OTLP and Prometheus), semconv (their names) and console.
package sink
