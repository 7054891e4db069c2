package serving

import (
	"context"
	"slices"
	"time"

	"wattline/sink"
	"wattline/sink/metrics"
	"wattline/sink/otlp"
	"wattline/sink/store"
	"wattline/sink/telemetry"
)

// TelemetryFlags configure traces and metrics.
type TelemetryFlags struct {
	OTLPEndpoint string   `name:"otlp-endpoint" help:"OpenTelemetry collector for traces and metrics, http://HOST:4317 (gRPC) or http://HOST:4318 (HTTP). Put credentials into OTEL_EXPORTER_OTLP_HEADERS. Default: none; traceparent headers are passed on unchanged." placeholder:"URL" group:"Traces and metrics"`
	OTLPProtocol string   `name:"otlp-protocol" help:"Protocol to the collector: ${enum}. auto is grpc for port 4317, otherwise http." enum:"auto,grpc,http" default:"auto" group:"Traces and metrics"`
	OTLPSignals  []string `name:"otlp-signals" help:"What to send: traces, metrics." enum:"traces,metrics" default:"traces,metrics" group:"Traces and metrics"`
	TraceContext string   `help:"What to do with a client's trace: ${enum}." enum:"continue,link,ignore" default:"continue" group:"Traces and metrics"`
	TraceRatio   float64  `help:"Fraction of new traces to record, 0 to 1. A continued trace follows its parent." default:"1" group:"Traces and metrics"`
	Metrics      string   `help:"Page /metrics of the admin API for Prometheus: ${enum}." enum:"on,off" default:"on" group:"Traces and metrics"`
	MetricLabels []string `help:"Request labels to use as metric attributes; at most ${max_metric_labels}." placeholder:"KEY" group:"Traces and metrics"`
}

// open checks the flags and opens the exporters.
func (f *TelemetryFlags) open(h *Host, instance string) (*telemetry.Telemetry, error) {
	if f.TraceRatio < 0 || f.TraceRatio > 1 {
		return nil, usageError("--trace-ratio is %g, but must be between 0 and 1", f.TraceRatio)
	}
	if n := len(f.MetricLabels); n > metrics.MaxLabels {
		return nil, usageError("--metric-labels has %d labels; at most %d are allowed, because each multiplies the number of series", n, metrics.MaxLabels)
	}
	cfg := telemetry.Config{
		Traces: slices.Contains(f.OTLPSignals, "traces"), Metrics: slices.Contains(f.OTLPSignals, "metrics"),
		TraceContext: otlp.Incoming(f.TraceContext), TraceRatio: f.TraceRatio, Prometheus: f.Metrics != "off",
		MetricLabels: f.MetricLabels, Instance: instance, Version: h.Version, Log: h.Log,
	}
	if f.OTLPEndpoint != "" {
		endpoint, err := otlp.ParseEndpoint(f.OTLPEndpoint, otlp.Protocol(f.OTLPProtocol))
		if err != nil {
			return nil, usageError("--otlp-endpoint: %w", err)
		}
		cfg.Collector = &endpoint
	}
	return telemetry.Open(h.Ctx, &cfg)
}

// metricSources are the functions from which metrics read the state of the service.
func (s *Service) metricSources() metrics.Sources {
	src := metrics.Sources{Routes: s.routeStates, Queue: s.Rows.Queue.Stats, Devices: s.energy.deviceMetrics, Slots: s.energy.slotMetrics, Lost: s.Rows.lost, Monitor: s.monitors.metrics}
	if s.host.Ship != nil {
		src.Outbox = s.Rows.outbox
	}
	return src
}

func (s *Service) routeStates() []metrics.Route {
	out := make([]metrics.Route, len(s.routes))
	for i, r := range s.routes {
		out[i] = metrics.Route{Name: r.Name, InFlight: r.proxy.Live(), Connections: r.proxy.Conns()}
	}
	return out
}

// countTimeout bounds the counting of rows, because a scrape of the metrics waits for it.
const countTimeout = 500 * time.Millisecond

// outbox counts the rows that wait to be shipped.
func (r *Rows) outbox() (metrics.Outbox, bool) {
	w, ok := countIn(r.store, (*store.Store).Waiting)
	return metrics.Outbox{Rows: w.Rows, Oldest: w.Oldest}, ok
}

// lost counts the rows that the store's size limit deleted before they were shipped.
func (r *Rows) lost() (int64, bool) {
	return countIn(r.store, (*store.Store).Lost)
}

// countIn calls count on the store. It returns false if that fails, or if the store is not open yet during an upgrade.
func countIn[T any](s *store.LazyStore, count func(*store.Store, context.Context) (T, error)) (n T, ok bool) {
	st := s.Store()
	if st == nil {
		return n, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	n, err := count(st, ctx)
	return n, err == nil
}

// status is the answer of /api/status: the counters of the queue, of the rows that wait to be shipped, of the readers of
// power and slots, and of the export to a collector.
func (s *Service) status() any {
	out := struct {
		sink.Stats
		OTLP         *telemetry.Status `json:",omitempty"`
		Outbox       *metrics.Outbox   `json:",omitempty"` // absent: nothing is shipped, or it is not known
		OutboxLost   *int64            `json:",omitempty"`
		PowerSources []metrics.Device  `json:",omitempty"`
		SlotsReader  []metrics.Slots   `json:",omitempty"`
	}{Stats: s.Rows.Queue.Stats(), OTLP: s.Rows.Telemetry.Status(), PowerSources: s.energy.deviceMetrics(), SlotsReader: s.energy.slotMetrics()}
	if s.host.Ship == nil {
		return out
	}
	if o, ok := s.Rows.outbox(); ok {
		out.Outbox = &o
	}
	if n, ok := s.Rows.lost(); ok {
		out.OutboxLost = &n
	}
	return out
}
