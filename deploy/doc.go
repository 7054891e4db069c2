// Package deploy is how wattline is run elsewhere: a systemd unit (systemd), containers (Dockerfile,
// compose.yaml), Kubernetes (k8s), Prometheus alerts (prometheus), Grafana dashboards as code (grafana), and
// what a load balancer in front of it needs (nginx.conf, haproxy.cfg). README.md walks through all of them.
//
// There is no code in it but the tests, which run these files through the programs that will read them:
// promtool and Prometheus, the ClickHouse engine, SQLite, the compose specification's own loader, and the
// Kubernetes API types. What cannot be run on a machine without containers or systemd, README.md names.
package deploy
