// Package grafana defines wattline's dashboards. Each panel is one question, answered from the rows by SQL or
// from the metrics by PromQL (latency.go, efficiency.go, operations.go, requests.go). variable.go has the lists of instances,
// models and so on from which a person chooses.
//
// Write encodes them as Grafana's JSON: dashboards/ for ClickHouse and Prometheus, dashboards-sqlite/ for panels
// that the SQLite store can answer. The JSON is committed; a test compares it with this code and rewrites it with
// -update. Other tests run each panel's SQL on a real ClickHouse engine and on SQLite, and its PromQL on a real
// Prometheus, with data of known answers.
package grafana
