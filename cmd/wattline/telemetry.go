package main

import (
	"context"
	"slices"
	"time"

	"wattline/sink"
	"wattline/sink/metrics"
	"wattline/sink/otlp"
	"wattline/sink/telemetry"
)

// telemetryFlags say where traces and metrics go.
type telemetryFlags struct {
	OTLPEndpoint string   `name:"otlp-endpoint" help:"OpenTelemetry collector for traces and metrics, http://HOST:4317 (gRPC) or http://HOST:4318 (HTTP). Credentials belong into OTEL_EXPORTER_OTLP_HEADERS. Default: none; traceparent headers are passed on unchanged." placeholder:"URL" group:"Traces and metrics"`
	OTLPProtocol string   `name:"otlp-protocol" help:"Protocol to the collector: ${enum}. auto is grpc for port 4317, otherwise http." enum:"auto,grpc,http" default:"auto" group:"Traces and metrics"`
	OTLPSignals  []string `name:"otlp-signals" help:"What is sent: traces, metrics." enum:"traces,metrics" default:"traces,metrics" group:"Traces and metrics"`
	TraceContext string   `help:"What to do with the trace of a client: ${enum}." enum:"continue,link,ignore" default:"continue" group:"Traces and metrics"`
	TraceRatio   float64  `help:"Share of new traces that is recorded, 0 to 1. A continued trace follows its parent." default:"1" group:"Traces and metrics"`
	Metrics      string   `help:"Page /metrics of the admin API for Prometheus: ${enum}." enum:"on,off" default:"on" group:"Traces and metrics"`
	MetricLabels []string `help:"Request labels that become attributes of metrics; at most ${max_metric_labels}." placeholder:"KEY" group:"Traces and metrics"`
}

// open refuses flags that cannot be used, and opens what they ask for.
func (f *telemetryFlags) open(a *app, instance string) (*telemetry.Telemetry, error) {
	if f.TraceRatio < 0 || f.TraceRatio > 1 {
		return nil, usageError("--trace-ratio is %g and must be from 0 to 1", f.TraceRatio)
	}
	if n := len(f.MetricLabels); n > metrics.MaxLabels {
		return nil, usageError("--metric-labels has %d labels; more than %d would make too many series", n, metrics.MaxLabels)
	}
	cfg := telemetry.Config{
		Traces: slices.Contains(f.OTLPSignals, "traces"), Metrics: slices.Contains(f.OTLPSignals, "metrics"),
		TraceContext: otlp.Incoming(f.TraceContext), TraceRatio: f.TraceRatio, Prometheus: f.Metrics != "off",
		MetricLabels: f.MetricLabels, Instance: instance, Version: version(), Log: a.log,
	}
	if f.OTLPEndpoint != "" {
		endpoint, err := otlp.ParseEndpoint(f.OTLPEndpoint, otlp.Protocol(f.OTLPProtocol))
		if err != nil {
			return nil, usageError("--otlp-endpoint: %w", err)
		}
		cfg.Collector = &endpoint
	}
	return telemetry.Open(a.ctx, &cfg)
}

// metricSources are where metrics read the state of the service.
func (s *service) metricSources(shipping bool) metrics.Sources {
	src := metrics.Sources{Routes: s.routeStates, Queue: s.rows.queue.Stats, Devices: s.power.deviceStates, Slots: s.power.slotReads, Lost: s.rows.lost}
	if shipping {
		src.Outbox = s.rows.outbox
	}
	return src
}

func (s *service) routeStates() []metrics.Route {
	out := make([]metrics.Route, len(s.routes))
	for i, r := range s.routes {
		out[i] = metrics.Route{Name: r.Name, InFlight: r.proxy.Live(), Connections: r.proxy.Conns()}
	}
	return out
}

// outboxTime bounds the counting of rows that wait: whoever collects metrics waits for it.
const outboxTime = 500 * time.Millisecond

// outbox counts what waits to be shipped.
func (r *rows) outbox() (metrics.Outbox, bool) {
	st := r.store.Store()
	if st == nil {
		return metrics.Outbox{}, false // a predecessor still writes it
	}
	ctx, cancel := context.WithTimeout(context.Background(), outboxTime)
	defer cancel()
	w, err := st.Waiting(ctx)
	if err != nil {
		return metrics.Outbox{}, false
	}
	return metrics.Outbox{Rows: w.Rows, Oldest: w.Oldest}, true
}

// lost counts the rows that the store's size limit dropped unshipped.
func (r *rows) lost() (int64, bool) {
	st := r.store.Store()
	if st == nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), outboxTime)
	defer cancel()
	n, err := st.Lost(ctx)
	return n, err == nil
}

// status is what /api/status shows: what became of the rows, and of their export to a collector.
func (s *service) status() any {
	return struct {
		sink.Stats
		OTLP *telemetry.Status `json:",omitempty"`
	}{s.rows.queue.Stats(), s.rows.telemetry.Status()}
}
