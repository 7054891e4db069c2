package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// MetricStats counts exports of all metrics together.
type MetricStats struct {
	Sent, Failed uint64
	LastError    string // "" while sending works
	LastErrorAt  time.Time
}

// MetricReader sends every metric of the MeterProvider that it belongs to, at an interval and once more
// at its Shutdown.
type MetricReader struct {
	sdkmetric.Reader
	counted *countedExporter
}

// NewMetricReader makes a MetricReader. The MeterProvider that it is given to shuts it down.
func NewMetricReader(ctx context.Context, e Endpoint, every time.Duration, log *slog.Logger) (*MetricReader, error) {
	exporter, err := e.metricExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("otlp: metrics to %s: %w", e, err)
	}
	c := &countedExporter{Exporter: exporter, log: log}
	return &MetricReader{
		Reader:  sdkmetric.NewPeriodicReader(c, sdkmetric.WithInterval(every), sdkmetric.WithTimeout(uploadTimeout)),
		counted: c,
	}, nil
}

// Stats returns the counters as they are now.
func (r *MetricReader) Stats() MetricStats {
	r.counted.mu.Lock()
	defer r.counted.mu.Unlock()
	return r.counted.stats
}

// countedExporter counts failures, which the SDK would only report to a process-wide error handler.
type countedExporter struct {
	sdkmetric.Exporter
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	stats  MetricStats
	logged time.Time
}

// Export sends one collection. Failures end here: they are counted and logged.
func (c *countedExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	err := c.Exporter.Export(ctx, rm)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.stats.Sent++
		c.stats.LastError = ""
		return nil
	}
	now := time.Now()
	c.stats.Failed++
	c.stats.LastError, c.stats.LastErrorAt = err.Error(), now
	if c.logged.IsZero() || now.Sub(c.logged) >= logInterval {
		c.logged = now
		c.log.Warn("metrics do not arrive at the collector; they will be sent whole again", "error", err, "failures", c.stats.Failed)
	}
	return nil
}
