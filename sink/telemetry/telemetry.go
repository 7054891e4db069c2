// Package telemetry makes measured rows visible outside the store: as traces and metrics for an OpenTelemetry
// collector, as a page for Prometheus, and as lines of the log.
package telemetry

import (
	"context"
	"errors"
	"log/slog"
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

// pushInterval is how often metrics are sent to a collector.
const pushInterval = 15 * time.Second

// Config of a Telemetry. Log is required; everything else is off at its zero value.
type Config struct {
	Collector    *otlp.Endpoint // nil: none
	Traces       bool           // to the collector
	Metrics      bool           // to the collector
	TraceContext otlp.Incoming
	TraceRatio   float64
	Prometheus   bool // answer scrapes
	MetricLabels []string
	Instance     string
	Version      string
	Log          *slog.Logger
}

// Target is a place where rows go beside the store. The observer's methods must not block.
type Target interface {
	sink.Observer
	// Close hands over what waits, until ctx ends.
	Close(ctx context.Context) error
}

// Telemetry is the sink.Observer of a queue: it shows each row to every export target.
type Telemetry struct {
	targets   []Target
	collector string                      // "": none
	tracer    *otlp.Tracer                // nil: no traces
	push      *otlp.MetricReader          // nil: no metrics to the collector
	page      *metrics.PrometheusExporter // nil: off
	metrics   *metrics.Metrics            // nil: neither push nor page
	log       *slog.Logger
}

// Open opens the export targets that cfg turns on. It connects to nothing yet: a collector may come later, or never. Close
// ends them.
func Open(ctx context.Context, cfg *Config) (*Telemetry, error) {
	// Otherwise OpenTelemetry prints to stderr itself.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { cfg.Log.Warn("OpenTelemetry", "error", err) }))
	otel.SetLogger(logr.FromSlogHandler(valueHider{cfg.Log.Handler()}))
	t := &Telemetry{log: cfg.Log}
	if cfg.Collector != nil {
		t.collector = cfg.Collector.String()
	}
	// The table of export targets, in the order in which they see a row.
	for _, target := range []struct {
		on   bool
		open func(context.Context, *Config) (Target, error)
	}{
		{true, openRequestLog},
		{cfg.Collector != nil && cfg.Traces, t.openTraces},
		{cfg.Prometheus || cfg.Collector != nil && cfg.Metrics, t.openMetrics},
	} {
		if !target.on {
			continue
		}
		opened, err := target.open(ctx, cfg)
		if err != nil {
			t.Close(ctx)
			return nil, err
		}
		t.targets = append(t.targets, opened)
	}
	return t, nil
}

// traces is the export target of traces.
type traces struct {
	sink.NopObserver
	*otlp.Tracer
	client otlptrace.Client
}

func (t *Telemetry) openTraces(ctx context.Context, cfg *Config) (Target, error) {
	client, err := cfg.Collector.Client(ctx)
	if err != nil {
		return nil, err
	}
	t.tracer, err = otlp.New(otlp.Config{
		Upload: client, Incoming: cfg.TraceContext, Ratio: cfg.TraceRatio, Instance: cfg.Instance, Version: cfg.Version, Log: cfg.Log,
	})
	return &traces{Tracer: t.tracer, client: client}, err
}

// Settled sends the trace of a row with its final energy.
func (t *traces) Settled(rec *meter.Record) { t.Tracer.Settled(rec) }

// Close sends the traces that wait.
func (t *traces) Close(ctx context.Context) error {
	return errors.Join(t.Stop(ctx), t.client.Stop(ctx))
}

// rowMetrics is the export target of metrics, for Prometheus and for the collector.
type rowMetrics struct {
	*metrics.Metrics
	tracer *otlp.Tracer // nil: no exemplars
}

func (t *Telemetry) openMetrics(ctx context.Context, cfg *Config) (_ Target, err error) {
	var readers []sdkmetric.Reader
	if cfg.Prometheus {
		if t.page, err = metrics.NewPrometheusExporter(cfg.Log); err != nil {
			return nil, err
		}
		readers = append(readers, t.page.Reader)
	}
	if cfg.Collector != nil && cfg.Metrics {
		if t.push, err = otlp.NewMetricReader(ctx, *cfg.Collector, pushInterval, cfg.Log); err != nil {
			return nil, err
		}
		readers = append(readers, t.push)
	}
	t.metrics, err = metrics.New(metrics.Config{Readers: readers, Instance: cfg.Instance, Version: cfg.Version, Labels: cfg.MetricLabels})
	return &rowMetrics{t.metrics, t.tracer}, err
}

// Offered records a request that is over.
func (m *rowMetrics) Offered(rec *meter.Record) { m.RecordEnded(rec, m.tracer.Span(rec.ID)) }

// Settled records a row with its final energy.
func (m *rowMetrics) Settled(rec *meter.Record) { m.RecordSettled(rec) }

// Close records the rows that wait and sends the metrics once more.
func (m *rowMetrics) Close(ctx context.Context) error { return m.Shutdown(ctx) }

// Collector is the collector's address; "" where there is none.
func (t *Telemetry) Collector() string { return t.collector }

// TraceRoute makes the requests of a route traced: it sets the Tracer of the proxy's configuration and puts itself
// before the Observer.
func (t *Telemetry) TraceRoute(cfg *proxy.Config, scheme string) {
	if t.tracer == nil {
		cfg.Tracer = otlp.PassthroughTracer{}
		return
	}
	route := t.tracer.Route(scheme)
	cfg.Tracer, cfg.Observer = route, &tracedObserver{route, cfg.Observer}
}

// tracedObserver passes a route's events on after the tracer has seen them: the tracer must know a row before its
// energy can become final.
type tracedObserver struct {
	route *otlp.Route
	next  proxy.Observer
}

// Observe passes an event on.
func (o *tracedObserver) Observe(e proxy.Event) {
	if e.Step == proxy.RequestSent {
		o.route.Sent(e.Seq, e.At)
	}
	o.next.Observe(e)
}

// Done passes a finished row on.
func (o *tracedObserver) Done(seq uint64, at int64, rec *meter.Record) {
	o.route.Ended(seq, at, rec)
	o.next.Done(seq, at, rec)
}

// Offered shows a request that is over to the targets. Its energy may be final already.
func (t *Telemetry) Offered(rec *meter.Record) {
	for _, target := range t.targets {
		target.Offered(rec)
	}
	if rec.EnergyQuality != meter.EnergyPending {
		t.Settled(rec)
	}
}

// Settled shows a row with its final energy to the targets.
func (t *Telemetry) Settled(rec *meter.Record) {
	for _, target := range t.targets {
		target.Settled(rec)
	}
}

// Power shows a device's second to the targets.
func (t *Telemetry) Power(p *sink.Power) {
	for _, target := range t.targets {
		target.Power(p)
	}
}

// Ledger shows a window of a device's ledger to the targets.
func (t *Telemetry) Ledger(l *sink.Ledger) {
	for _, target := range t.targets {
		target.Ledger(l)
	}
}

// SetSources tells the metrics where to read the state of the service. The state of the exports is added here.
func (t *Telemetry) SetSources(src metrics.Sources) {
	if t.metrics == nil {
		return
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

// Page answers a scrape of Prometheus; nil when it is off.
func (t *Telemetry) Page() fasthttp.RequestHandler {
	if t.page == nil {
		return nil
	}
	return t.page.Handler()
}

// Status is the part of /api/status about the collector.
type Status struct {
	Endpoint string
	Traces   *otlp.Stats       `json:",omitempty"`
	Metrics  *otlp.MetricStats `json:",omitempty"`
}

// Status is nil where there is no collector.
func (t *Telemetry) Status() *Status {
	if t.collector == "" {
		return nil
	}
	s := &Status{Endpoint: t.collector}
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

// closeTimeout is how long Close waits for a collector.
const closeTimeout = 3 * time.Second

// Close ends the targets, each after it has handed over what waits. A failure is only logged, because the collector may be away.
func (t *Telemetry) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var err error
	for _, target := range t.targets {
		err = errors.Join(err, target.Close(ctx))
	}
	if err != nil {
		t.log.Warn("not everything was exported before the end", "error", err.Error())
	}
}

// valueHider is a slog.Handler that writes OpenTelemetry's complaints about its own variables without their values:
// OTEL_EXPORTER_OTLP_HEADERS holds credentials, also when it is malformed.
type valueHider struct{ slog.Handler }

// Handle writes the message without its attributes.
func (h valueHider) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, "OpenTelemetry cannot use one of its variables (OTEL_...): correct it; the value is not shown, since it may be a secret", rec.PC)
	out.AddAttrs(slog.String("problem", rec.Message))
	return h.Handler.Handle(ctx, out)
}

// WithAttrs drops the attributes.
func (h valueHider) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup drops the group.
func (h valueHider) WithGroup(string) slog.Handler { return h }
