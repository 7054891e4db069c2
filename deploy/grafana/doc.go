// Package grafana is wattline's dashboards as code: each panel is one question (panel.go), asked of the
// rows in SQL or of the metrics in PromQL (latency.go, efficiency.go, operations.go, requests.go).
//
// Write makes Grafana's JSON of them: dashboards/ for ClickHouse and Prometheus, and dashboards-sqlite/,
// the panels that a desktop's store can answer without either. The JSON is committed; a test holds it
// against this code and writes it anew with -update. Other tests run every panel's SQL on a real
// ClickHouse engine and on SQLite, and every PromQL on a real Prometheus, on data whose answers are known.
package grafana
