// Package clickhouse ships rows from the store to ClickHouse, each exactly once, and keeps the schema there.
//
// Start at Parse (target.go) for a DSN, Open (client.go) for a client and NewShipper (shipper.go) for the
// loop; delivery.go is how one batch arrives exactly once.
package clickhouse
