package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"wattline/meter"
	"wattline/proxy"
	"wattline/sink"
	"wattline/sink/metrics"
	"wattline/sink/otlp"
)

// telemetryFlags say where traces and metrics go.
type telemetryFlags struct {
	OTLPEndpoint string   `name:"otlp-endpoint" help:"OpenTelemetry collector for traces and metrics, http://HOST:4317 (gRPC) or http://HOST:4318 (HTTP). Credentials go into OTEL_EXPORTER_OTLP_HEADERS. Unset: none, and requests pass with the traceparent they came with." placeholder:"URL" group:"Traces and metrics"`
	OTLPProtocol string   `name:"otlp-protocol" help:"How batches travel: ${enum}. auto is grpc for port 4317, else http." enum:"auto,grpc,http" default:"auto" group:"Traces and metrics"`
	OTLPSignals  []string `name:"otlp-signals" help:"What is sent: traces, metrics." enum:"traces,metrics" default:"traces,metrics" group:"Traces and metrics"`
	TraceContext string   `help:"What becomes of a client's own trace: ${enum}." enum:"continue,link,ignore" default:"continue" group:"Traces and metrics"`
	TraceRatio   float64  `help:"Share of new traces that is recorded, 0 to 1. One that is continued follows its parent." default:"1" group:"Traces and metrics"`
	Metrics      string   `help:"/metrics on the admin listener, for Prometheus: ${enum}." enum:"on,off" default:"on" group:"Traces and metrics"`
	MetricLabels []string `help:"Labels of requests that become attributes of metrics; at most four." placeholder:"KEY" group:"Traces and metrics"`
}

// pushEvery is how often metrics are sent to a collector.
const pushEvery = 15 * time.Second

// telemetry sends rows out as traces, metrics and, some of them, lines of the log. It is the queue's
// sink.Observer.
type telemetry struct {
	endpoint string // "": no collector
	tracer   *otlp.Tracer
	client   otlptrace.Client
	push     *otlp.MetricReader
	page     *metrics.PrometheusExporter
	metrics  *metrics.Metrics
	teller   *teller
	log      *slog.Logger
}

// openTelemetry connects to nothing yet: a collector may come later, or never.
func openTelemetry(a *app, c *telemetryFlags, instance string) (*telemetry, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { a.log.Warn("OpenTelemetry", "error", err) })) // else it prints to stderr itself
	otel.SetLogger(logr.FromSlogHandler(wordless{a.log.Handler()}))                                            // likewise
	t := &telemetry{log: a.log}
	var readers []sdkmetric.Reader
	if c.Metrics != "off" {
		page, err := metrics.NewPrometheusExporter(a.log)
		if err != nil {
			return nil, err
		}
		t.page, readers = page, append(readers, page.Reader)
	}
	if c.OTLPEndpoint != "" {
		if err := t.connect(a, c, instance); err != nil {
			return nil, err
		}
		if t.push != nil {
			readers = append(readers, t.push)
		}
	}
	if len(readers) > 0 {
		var err error
		t.metrics, err = metrics.New(metrics.Config{Readers: readers, Instance: instance, Version: version(), Labels: c.MetricLabels})
		if err != nil {
			return nil, usageError("--metric-labels: %w", err)
		}
	}
	t.teller = newTeller(a.log)
	return t, nil
}

// connect makes what sends to the collector.
func (t *telemetry) connect(a *app, c *telemetryFlags, instance string) error {
	endpoint, err := otlp.ParseEndpoint(c.OTLPEndpoint, otlp.Protocol(c.OTLPProtocol))
	if err != nil {
		return usageError("--otlp-endpoint: %w", err)
	}
	if c.TraceRatio < 0 || c.TraceRatio > 1 {
		return usageError("--trace-ratio %g is no share: it must be from 0 to 1", c.TraceRatio)
	}
	t.endpoint = endpoint.String()
	if slices.Contains(c.OTLPSignals, "traces") {
		if t.client, err = endpoint.Client(a.ctx); err != nil {
			return err
		}
		t.tracer, err = otlp.New(otlp.Config{
			Upload: t.client, Incoming: otlp.Incoming(c.TraceContext), Ratio: c.TraceRatio, Instance: instance, Version: version(), Log: a.log,
		})
		if err != nil {
			return err
		}
	}
	if slices.Contains(c.OTLPSignals, "metrics") {
		if t.push, err = otlp.NewMetricReader(a.ctx, endpoint, pushEvery, a.log); err != nil {
			return err
		}
	}
	return nil
}

// follow makes a route's requests traced: it gives the proxy a Tracer and stands before its Observer.
func (t *telemetry) follow(cfg *proxy.Config, scheme string) {
	if t.tracer == nil {
		cfg.Tracer = otlp.PassthroughTracer{}
		return
	}
	route := t.tracer.Route(scheme)
	cfg.Tracer, cfg.Observer = route, &followed{route, cfg.Observer}
}

// followed hands a route's events on, behind the tracer, which has to see a row before anybody can make
// it final.
type followed struct {
	route *otlp.Route
	next  proxy.Observer
}

// Observe passes an event on.
func (f *followed) Observe(e proxy.Event) {
	if e.Step == proxy.RequestSent {
		f.route.Sent(e.Seq, e.At)
	}
	f.next.Observe(e)
}

// Done passes a finished row on.
func (f *followed) Done(seq uint64, at int64, rec *meter.Record) {
	f.route.Ended(seq, at, rec)
	f.next.Done(seq, at, rec)
}

// Offered is shown a request that is over.
func (t *telemetry) Offered(rec *meter.Record) {
	t.teller.offer(rec)
	if t.metrics != nil {
		t.metrics.RecordEnded(rec, t.tracer.Span(rec.ID))
	}
	if rec.EnergyQuality != meter.EnergyPending {
		t.Settled(rec)
	}
}

// Settled is shown a row whose energy is final.
func (t *telemetry) Settled(rec *meter.Record) {
	if t.metrics != nil {
		t.metrics.RecordSettled(rec)
	}
	if t.tracer != nil {
		t.tracer.Settled(rec)
	}
}

// Power is shown a device's second.
func (t *telemetry) Power(p *sink.Power) {
	if t.metrics != nil {
		t.metrics.Power(p)
	}
}

// Ledger is shown a window of a device's ledger.
func (t *telemetry) Ledger(l *sink.Ledger) {
	if t.metrics != nil {
		t.metrics.Ledger(l)
	}
}

// watch tells the metrics where the state of the service is to be seen.
func (t *telemetry) watch(s *service, shipping bool) {
	if t.metrics == nil {
		return
	}
	src := metrics.Sources{Routes: s.routeStates, Queue: s.rows.queue.Stats, Devices: s.power.deviceStates, Slots: s.power.slotReads, Lost: s.rows.lost}
	if shipping {
		src.Outbox = s.rows.outbox
	}
	if t.tracer != nil {
		src.Traces = func() metrics.Export {
			st := t.tracer.Stats()
			return metrics.Export{Sent: st.Sent, Dropped: st.Dropped, Failed: st.Failed, Refused: st.SpansRejected, Waiting: st.Waiting}
		}
	}
	if t.push != nil {
		src.Pushes = func() metrics.Export {
			st := t.push.Stats()
			return metrics.Export{Sent: st.Sent, Failed: st.Failed}
		}
	}
	t.metrics.SetSources(src)
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
	return metrics.Outbox{Requests: w.Requests, Power: w.Power, Ledger: w.Ledger, Configs: w.Configs, Gaps: w.Gaps, Oldest: w.Oldest}, true
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

// handler answers /metrics; nil when it is off.
func (t *telemetry) handler() fasthttp.RequestHandler {
	if t.page == nil {
		return nil
	}
	return t.page.Handler()
}

// telemetryStatus is what /api/status says of the collector.
type telemetryStatus struct {
	Endpoint string
	Traces   *otlp.Stats       `json:",omitempty"`
	Metrics  *otlp.MetricStats `json:",omitempty"`
}

// status is nil where there is no collector.
func (t *telemetry) status() *telemetryStatus {
	if t.endpoint == "" {
		return nil
	}
	s := &telemetryStatus{Endpoint: t.endpoint}
	if t.tracer != nil {
		st := t.tracer.Stats()
		s.Traces = &st
	}
	if t.push != nil {
		st := t.push.Stats()
		s.Metrics = &st
	}
	return s
}

// status is what /api/status shows: what became of rows, and of what was made of them for a collector.
func (s *service) status() any {
	return struct {
		sink.Stats
		OTLP *telemetryStatus `json:",omitempty"`
	}{s.rows.queue.Stats(), s.rows.outside.status()}
}

// closeTime is how long a stop waits for a collector.
const closeTime = 3 * time.Second

// close sends what waits. A collector that does not take it is no failure of this process: what was lost
// is logged.
func (t *telemetry) close(ctx context.Context) {
	t.teller.stop()
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	var err error
	if t.tracer != nil {
		err = errors.Join(t.tracer.Stop(ctx), t.client.Stop(ctx))
	}
	if t.metrics != nil {
		err = errors.Join(err, t.metrics.Shutdown(ctx))
	}
	if err != nil {
		t.log.Warn("the collector did not take everything", "error", fmt.Sprint(err))
	}
}
