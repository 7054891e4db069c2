// Package deploy has the files to run wattline elsewhere: systemd units (systemd), containers (Dockerfile,
// compose.yaml), Kubernetes manifests (k8s), Prometheus alerts (prometheus), Grafana dashboards (grafana), an
// OpenTelemetry collector (otel), load balancers (nginx.conf, haproxy.cfg), an example config.yaml and the release
// script. README.md describes them.
//
// The package itself has only tests. They pass these files to the programs that read them: promtool, nginx, HAProxy,
// systemd-analyze, the loader of the compose specification, the Kubernetes API types, BuildKit's parser and Grafana's
// types. README.md says what is not tested without containers or systemd. Others check the repository's pages.
//
// Sub-packages with code: handover passes listeners to a new process and is part of wattline; llama fetches and starts
// a llama-server, for the demo and for tests; debian fetches programs for tests; grafana writes the dashboards. Two
// programs are for developers: mutants, and validate, a module of its own.
package deploy
