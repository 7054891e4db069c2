package metrics

import (
	"fmt"

	"go.opentelemetry.io/otel/attribute"
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

// perRequest are the instruments that rows are recorded with, looked up once.
type perRequest struct {
	requests, stalls, tokens, failures, disputed, unread, settled, energy, deviceShare, agentRequests, agentTokens, agentEnergy metric.Float64Counter
	duration, ttft, tpot, itl, phase, usage, overhead, jPerTok, agentTTFT                                                       metric.Float64Histogram
}

func (in *instruments) perRequest() perRequest {
	c, h := in.counters, in.histograms
	return perRequest{
		requests: c[semconv.MetricRequests], stalls: c[semconv.MetricStalls], tokens: c[semconv.MetricTokens], failures: c[semconv.MetricMeterFailures],
		agentRequests: c[semconv.MetricAgentRequests], agentTokens: c[semconv.MetricAgentTokens], agentEnergy: c[semconv.MetricAgentEnergy], agentTTFT: h[semconv.MetricAgentTTFT],
		disputed: c[semconv.MetricDisputed], unread: c[semconv.MetricUnread], settled: c[semconv.MetricSettled], energy: c[semconv.MetricEnergy], deviceShare: c[semconv.MetricDeviceShare],
		duration: h[semconv.MetricRequestDuration], ttft: h[semconv.MetricTTFT], tpot: h[semconv.MetricTPOT], itl: h[semconv.MetricITL],
		phase: h[semconv.MetricPhase], usage: h[semconv.MetricTokenUsage], overhead: h[semconv.MetricOverhead], jPerTok: h[semconv.MetricEnergyPerToken],
	}
}

// options is one attribute set as every instrument takes it.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func newOptions(kv ...attribute.KeyValue) *options {
	set := metric.WithAttributeSet(attribute.NewSet(kv...))
	return &options{add: []metric.AddOption{set}, record: []metric.RecordOption{set}}
}
