// Package deploy holds the files for running wattline elsewhere: a systemd unit (systemd), containers (Dockerfile,
// compose.yaml), Kubernetes (k8s), Prometheus alerts (prometheus), and configurations of load balancers (nginx.conf,
// haproxy.cfg). README.md walks through all of them.
//
// The package itself has only tests. They run these files through the programs that read them: promtool and
// Prometheus, the ClickHouse engine, SQLite, the loader of the compose specification, and the Kubernetes API types.
// README.md names what cannot be tested without containers or systemd.
//
// The code is in sub-packages: llama fetches and runs a llama-server, handover passes listeners to a new process,
// grafana writes the dashboards. Two programs are for developers: mutants, and validate, a module of its own.
package deploy
