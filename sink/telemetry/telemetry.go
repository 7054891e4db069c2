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

// Telemetry is the sink.Observer of a queue.
type Telemetry struct {
	collector string // "": none
	tracer    *otlp.Tracer
	client    otlptrace.Client
	push      *otlp.MetricReader
	page      *metrics.PrometheusExporter
	metrics   *metrics.Metrics
	requests  *requestLogger
	log       *slog.Logger
}

// Open connects to nothing yet: a collector may come later, or never. Close ends it.
func Open(ctx context.Context, cfg *Config) (*Telemetry, error) {
	// Otherwise OpenTelemetry prints to stderr itself.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { cfg.Log.Warn("OpenTelemetry", "error", err) }))
	otel.SetLogger(logr.FromSlogHandler(valueHider{cfg.Log.Handler()}))
	t := &Telemetry{log: cfg.Log}
	var readers []sdkmetric.Reader
	if cfg.Prometheus {
		page, err := metrics.NewPrometheusExporter(cfg.Log)
		if err != nil {
			return nil, err
		}
		t.page, readers = page, append(readers, page.Reader)
	}
	if cfg.Collector != nil {
		if err := t.connect(ctx, cfg); err != nil {
			return nil, err
		}
		if t.push != nil {
			readers = append(readers, t.push)
		}
	}
	if len(readers) > 0 {
		var err error
		t.metrics, err = metrics.New(metrics.Config{Readers: readers, Instance: cfg.Instance, Version: cfg.Version, Labels: cfg.MetricLabels})
		if err != nil {
			return nil, err
		}
	}
	t.requests = newRequestLogger(cfg.Log)
	return t, nil
}

// connect makes the exporters to the collector.
func (t *Telemetry) connect(ctx context.Context, cfg *Config) (err error) {
	t.collector = cfg.Collector.String()
	if cfg.Traces {
		if t.client, err = cfg.Collector.Client(ctx); err != nil {
			return err
		}
		t.tracer, err = otlp.New(otlp.Config{
			Upload: t.client, Incoming: cfg.TraceContext, Ratio: cfg.TraceRatio, Instance: cfg.Instance, Version: cfg.Version, Log: cfg.Log,
		})
		if err != nil {
			return err
		}
	}
	if cfg.Metrics {
		t.push, err = otlp.NewMetricReader(ctx, *cfg.Collector, pushInterval, cfg.Log)
	}
	return err
}

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

// Offered takes a request that is over.
func (t *Telemetry) Offered(rec *meter.Record) {
	t.requests.offer(rec)
	if t.metrics != nil {
		t.metrics.RecordEnded(rec, t.tracer.Span(rec.ID))
	}
	if rec.EnergyQuality != meter.EnergyPending {
		t.Settled(rec)
	}
}

// Settled takes a row with its final energy.
func (t *Telemetry) Settled(rec *meter.Record) {
	if t.metrics != nil {
		t.metrics.RecordSettled(rec)
	}
	if t.tracer != nil {
		t.tracer.Settled(rec)
	}
}

// Power takes a device's second.
func (t *Telemetry) Power(p *sink.Power) {
	if t.metrics != nil {
		t.metrics.Power(p)
	}
}

// Ledger takes a window of a device's ledger.
func (t *Telemetry) Ledger(l *sink.Ledger) {
	if t.metrics != nil {
		t.metrics.Ledger(l)
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

// Close sends what waits. A collector that does not take everything is not an error of this process, so it is only
// logged.
func (t *Telemetry) Close(ctx context.Context) {
	t.requests.stop()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var err error
	if t.tracer != nil {
		err = errors.Join(t.tracer.Stop(ctx), t.client.Stop(ctx))
	}
	if t.metrics != nil {
		err = errors.Join(err, t.metrics.Shutdown(ctx))
	}
	if err != nil {
		t.log.Warn("the collector did not take everything", "error", err.Error())
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
