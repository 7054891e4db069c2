package metrics

import (
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"wattline/sink/semconv"
)

// instruments are the definitions come to life, by name.
type instruments struct {
	counters   map[string]metric.Float64Counter
	histograms map[string]metric.Float64Histogram
	observed   map[string]metric.Float64Observable
}

func newInstruments(m metric.Meter) (*instruments, error) {
	in := &instruments{map[string]metric.Float64Counter{}, map[string]metric.Float64Histogram{}, map[string]metric.Float64Observable{}}
	for _, d := range Definitions() {
		if err := in.add(m, d); err != nil {
			return nil, fmt.Errorf("metrics: %s: %w", d.Name, err)
		}
	}
	return in, nil
}

func (in *instruments) add(m metric.Meter, d Definition) (err error) {
	unit, doc := metric.WithUnit(d.Unit), metric.WithDescription(d.Doc)
	switch d.Kind {
	case Counter:
		in.counters[d.Name], err = m.Float64Counter(d.Name, unit, doc)
	case Histogram:
		in.histograms[d.Name], err = m.Float64Histogram(d.Name, unit, doc, metric.WithExplicitBucketBoundaries(d.Bounds...))
	case ObservedCounter:
		in.observed[d.Name], err = m.Float64ObservableCounter(d.Name, unit, doc)
	case ObservedUpDown:
		in.observed[d.Name], err = m.Float64ObservableUpDownCounter(d.Name, unit, doc)
	case ObservedGauge:
		in.observed[d.Name], err = m.Float64ObservableGauge(d.Name, unit, doc)
	default:
		err = fmt.Errorf("unknown kind %q", d.Kind)
	}
	return err
}

// all lists the observed instruments for their one callback.
func (in *instruments) all() []metric.Observable {
	out := make([]metric.Observable, 0, len(in.observed))
	for _, o := range in.observed {
		out = append(out, o)
	}
	return out
}

// perRequest are the histograms that rows are recorded with, looked up once.
type perRequest struct {
	duration, ttft, tpot, itl, phase, usage, overhead, jPerTok metric.Float64Histogram
}

func (in *instruments) perRequest() perRequest {
	return perRequest{
		duration: in.histograms[semconv.MetricRequestDuration], ttft: in.histograms[semconv.MetricTTFT], tpot: in.histograms[semconv.MetricTPOT],
		itl: in.histograms[semconv.MetricITL], phase: in.histograms[semconv.MetricPhase], usage: in.histograms[semconv.MetricTokenUsage],
		overhead: in.histograms[semconv.MetricOverhead], jPerTok: in.histograms[semconv.MetricEnergyPerToken],
	}
}

// The counters that rows are recorded with.
const (
	requestsCounter = iota
	stallsCounter
	tokensCounter
	failuresCounter
	disputedCounter
	settledCounter
	energyCounter
	deviceShareCounter
	rowCounters
)

// rowCounters are those counters, looked up once.
func (in *instruments) rowCounters() [rowCounters]metric.Float64Counter {
	return [rowCounters]metric.Float64Counter{
		requestsCounter: in.counters[semconv.MetricRequests], stallsCounter: in.counters[semconv.MetricStalls], tokensCounter: in.counters[semconv.MetricTokens],
		failuresCounter: in.counters[semconv.MetricMeterFailures], disputedCounter: in.counters[semconv.MetricDisputed], settledCounter: in.counters[semconv.MetricSettled],
		energyCounter: in.counters[semconv.MetricEnergy], deviceShareCounter: in.counters[semconv.MetricDeviceShare],
	}
}
