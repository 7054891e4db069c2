package metrics

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/semconv"
)

// Sources are called at each collection. Any of them may be nil; they must not block.
type Sources struct {
	Routes func() []Route
	Queue  func() sink.Stats
	Lost   func() (int64, bool)  // rows that the store's size limit dropped; false: it cannot be told now
	Outbox func() (Outbox, bool) // false: nothing ships, or it cannot be told now
	Traces func() Export
	Pushes func() Export // exports of all metrics

	Devices func() []Device
	Slots   func() []Slots
	Monitor func() []Monitored
}

// Monitored is how a metric of a route's monitor stands.
type Monitored struct {
	Route, Metric string
	Ratio         float64
	Known         bool // there is a ratio
	Alarms        int
}

// Device is how well a device is read.
type Device struct {
	ID, Kind                          string // hw.id, hw.type
	Readable                          bool
	AgreementPPM                      meter.Int
	Reopened, Errors, Missed, Demoted int
	CPU                               time.Duration
	LedgerEvents                      map[string]int64 // by kind
}

// Slots counts a route's polls of its upstream's slots and their results.
type Slots struct {
	Route                                string
	Looks, Failed, Bytes, Found, Unknown int64
	Waited                               time.Duration
}

// Route is the state of one route.
type Route struct {
	Name        string
	InFlight    int
	Connections int
}

// Outbox describes the rows that wait to be shipped.
type Outbox struct {
	Rows   map[string]int64 // by table
	Oldest time.Time        // start of the oldest request that waits; zero: none does
}

// Export counts the results of exports to a collector.
type Export struct {
	Sent, Dropped, Failed, Refused uint64
	Waiting                        int
}

// SetSources sets where the observed metrics come from.
func (m *Metrics) SetSources(s Sources) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = s
}

// device is one device's last state and its totals since the start.
type device struct {
	last     sink.Power
	source   string
	energyUj int64
	held     meter.Int        // throttled_us; null until the source has told one
	ledgerUj map[string]int64 // by account
}

// Accounts of the ledger.
const (
	accountCounter     = "counter"
	accountActive      = "requests_active"
	accountRequestIdle = "requests_idle"
	accountPools       = "pools"
	accountIdle        = "idle"
	accountResidual    = "residual"
)

// observer writes one collection's observations.
type observer struct {
	in *instruments
	o  metric.Observer
}

func (s observer) put(name string, v float64, kv ...attribute.KeyValue) {
	s.o.ObserveFloat64(s.in.observed[name], v, metric.WithAttributeSet(attribute.NewSet(kv...)))
}

// column writes a column in its unit, null not at all.
func (s observer) column(name string, v meter.Int, perUnit float64, kv ...attribute.KeyValue) {
	if v.Valid {
		s.put(name, float64(v.V)/perUnit, kv...)
	}
}

// observe is called by each reader at each collection.
func (m *Metrics) observe(_ context.Context, o metric.Observer) error {
	m.backlog.flush()
	s := observer{m.in, o}
	m.mu.Lock()
	src := m.sources
	for name, d := range m.devices {
		d.observe(s, name)
	}
	m.mu.Unlock()
	if src.Routes != nil {
		for _, r := range src.Routes() {
			route := attribute.String(semconv.Route, r.Name)
			s.put(semconv.MetricInFlight, float64(r.InFlight), route)
			s.put(semconv.MetricConnections, float64(r.Connections), route)
		}
	}
	if src.Queue != nil {
		s.queue(src.Queue())
	}
	if src.Lost != nil {
		if n, ok := src.Lost(); ok {
			s.put(semconv.MetricStoreLost, float64(n))
		}
	}
	if src.Outbox != nil {
		if b, ok := src.Outbox(); ok {
			s.outbox(b)
		}
	}
	if src.Devices != nil {
		for _, d := range src.Devices() {
			s.sampled(d)
		}
	}
	if src.Slots != nil {
		for _, l := range src.Slots() {
			s.slots(l)
		}
	}
	if src.Monitor != nil {
		for _, m := range src.Monitor() {
			kv := []attribute.KeyValue{attribute.String(semconv.Route, m.Route), attribute.String(semconv.Watched, m.Metric)}
			if m.Known {
				s.put(semconv.MetricMonitorRatio, m.Ratio, kv...)
			}
			s.put(semconv.MetricMonitorAlarms, float64(m.Alarms), kv...)
		}
	}
	s.exports(src)
	s.put(semconv.MetricCapped, float64(m.seriesCache.capped.Load()))
	s.process()
	return nil
}

func (d *device) observe(s observer, name string) {
	kind := semconv.HWGPU
	if d.source == "rapl" {
		kind = semconv.HWCPU
	}
	id := []attribute.KeyValue{attribute.String(semconv.HWID, name), attribute.String(semconv.HWType, kind)}
	if !d.last.At.IsZero() {
		s.put(semconv.MetricHWEnergy, float64(d.energyUj)/1e6, id...)
		s.column(semconv.MetricHWPower, d.last.MeanMw, 1e3, id...)
		s.column(semconv.MetricPowerLimit, d.last.LimitMw, 1e3, id...)
		s.column(semconv.MetricThrottled, d.held, 1e6, id...)
		s.column(semconv.MetricHWTemperature, d.last.TempC, 1, id...)
		s.column(semconv.MetricHWMemory, d.last.VRAMBytes, 1, id...)
		s.column(semconv.MetricHWUtilization, d.last.UtilPermille, 1e3, id...)
	}
	for account, uj := range d.ledgerUj {
		s.put(semconv.MetricLedger, float64(uj)/1e6, append(slices.Clip(id), attribute.String(semconv.Account, account))...)
	}
}

func (s observer) sampled(d Device) {
	id := []attribute.KeyValue{attribute.String(semconv.HWID, d.ID), attribute.String(semconv.HWType, d.Kind)}
	readable := 0.0
	if d.Readable {
		readable = 1
	}
	s.put(semconv.MetricReadable, readable, id...)
	s.column(semconv.MetricAgreement, d.AgreementPPM, 1e6, id...)
	s.put(semconv.MetricSamplerCPU, d.CPU.Seconds(), id...)
	for what, n := range map[string]int{"reopened": d.Reopened, "error": d.Errors, "missed": d.Missed, "demoted": d.Demoted} {
		s.put(semconv.MetricSamplerEvents, float64(n), append(slices.Clip(id), attribute.String(semconv.Result, what))...)
	}
	for what, n := range d.LedgerEvents {
		s.put(semconv.MetricLedgerEvents, float64(n), append(slices.Clip(id), attribute.String(semconv.Result, what))...)
	}
}

func (s observer) slots(l Slots) {
	route := attribute.String(semconv.Route, l.Route)
	for result, n := range map[string]int64{"answered": l.Looks - l.Failed, "failed": l.Failed} {
		s.put(semconv.MetricSlotLooks, float64(n), route, attribute.String(semconv.Result, result))
	}
	for result, n := range map[string]int64{"found": l.Found, "unknown": l.Unknown} {
		s.put(semconv.MetricSlotRequests, float64(n), route, attribute.String(semconv.Result, result))
	}
	s.put(semconv.MetricSlotTime, l.Waited.Seconds(), route)
	s.put(semconv.MetricSlotBytes, float64(l.Bytes), route)
}

func (s observer) queue(q sink.Stats) {
	s.put(semconv.MetricQueueRows, float64(q.Waiting))
	s.put(semconv.MetricStoreErrors, float64(q.StoreErrors))
	for kind, c := range map[string]sink.Counts{"requests": q.Requests, "settled": q.Settled, "samples": q.Samples} {
		kv := attribute.String(semconv.RowKind, kind)
		s.put(semconv.MetricQueueOffered, float64(c.Offered), kv)
		s.put(semconv.MetricQueueDropped, float64(c.Dropped), kv)
		s.put(semconv.MetricQueueLost, float64(c.Lost), kv)
	}
}

func (s observer) outbox(b Outbox) {
	for kind, n := range b.Rows {
		s.put(semconv.MetricOutboxRows, float64(n), attribute.String(semconv.RowKind, kind))
	}
	age := time.Duration(0)
	if !b.Oldest.IsZero() {
		age = max(0, time.Since(b.Oldest))
	}
	s.put(semconv.MetricOutboxAge, age.Seconds())
}

func (s observer) exports(src Sources) {
	put := func(signal, result string, n uint64) {
		s.put(semconv.MetricOTLP, float64(n), attribute.String(semconv.Signal, signal), attribute.String(semconv.Result, result))
	}
	if src.Traces != nil {
		e := src.Traces()
		put("traces", "sent", e.Sent)
		put("traces", "dropped", e.Dropped)
		put("traces", "failed", e.Failed)
		put("spans", "refused", e.Refused)
		s.put(semconv.MetricOTLPWaiting, float64(e.Waiting))
	}
	if src.Pushes != nil {
		e := src.Pushes()
		put("metrics", "sent", e.Sent)
		put("metrics", "failed", e.Failed)
	}
}
