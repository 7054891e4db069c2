package metrics

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// PrometheusExporter serves the metrics to Prometheus: give Reader to Config.Readers and serve Handler as
// /metrics. Names follow OpenTelemetry's rules for Prometheus: dots become underscores, the unit and _total
// are appended. A scraper that asks for OpenMetrics (Prometheus with exemplar storage on) gets exemplars.
type PrometheusExporter struct {
	Reader   sdkmetric.Reader
	registry *prometheus.Registry
	log      *slog.Logger
}

// NewPrometheusExporter uses a registry of its own, so no metric that a library registers globally is exported.
func NewPrometheusExporter(log *slog.Logger) (*PrometheusExporter, error) {
	e := &PrometheusExporter{registry: prometheus.NewRegistry(), log: log}
	reader, err := otelprom.New(otelprom.WithRegisterer(e.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	e.Reader = reader
	return e, nil
}

// Handler answers a scrape.
func (e *PrometheusExporter) Handler() fasthttp.RequestHandler {
	return fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeErrorLog{e.log}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
	}))
}

// scrapeErrorLog is promhttp's logger.
type scrapeErrorLog struct{ log *slog.Logger }

func (l scrapeErrorLog) Println(v ...any) {
	l.log.Warn("metrics for Prometheus are incomplete", "error", fmt.Sprint(v...))
}
