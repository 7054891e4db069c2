// Package prom shows wattline's metrics to Prometheus: a reader for the MeterProvider that package metrics
// makes, and a handler for /metrics on the admin listener. Names follow OpenTelemetry's rules for
// Prometheus: dots become underscores, units and _total go behind the name.
//
// A scraper that asks for OpenMetrics, as Prometheus does when exemplar storage is on, gets exemplars.
package prom

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

// Exporter is one /metrics. Give Reader to the MeterProvider and serve Handler.
type Exporter struct {
	Reader   sdkmetric.Reader
	registry *prometheus.Registry
	log      *slog.Logger
}

// New makes an Exporter with a registry of its own: nothing that a library registers by itself shows up.
func New(log *slog.Logger) (*Exporter, error) {
	e := &Exporter{registry: prometheus.NewRegistry(), log: log}
	reader, err := otelprom.New(otelprom.WithRegisterer(e.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("prom: %w", err)
	}
	e.Reader = reader
	return e, nil
}

// Handler answers a scrape.
func (e *Exporter) Handler() fasthttp.RequestHandler {
	return fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{
		ErrorLog: lines{e.log}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
	}))
}

// lines is promhttp's logger.
type lines struct{ log *slog.Logger }

func (l lines) Println(v ...any) {
	l.log.Warn("metrics for Prometheus are incomplete", "error", fmt.Sprint(v...))
}
