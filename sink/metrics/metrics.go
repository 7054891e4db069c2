package metrics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/semconv"
)

// Config configures Metrics.
type Config struct {
	// Readers take the metrics out: Prometheus, OTLP, both.
	Readers []sdkmetric.Reader
	// Instance and Version describe this wattline.
	Instance, Version string
	// Labels are the keys of column labels that become attributes; at most four.
	Labels []string
	// MaxValues is how many models, agents, and values of each label, are told apart (default 32).
	MaxValues int
}

// maxSeries bounds the series of one metric whatever happens.
const maxSeries = 1000

// Metrics records rows. Its methods may be called from any goroutine and never block on I/O.
type Metrics struct {
	provider    *sdkmetric.MeterProvider
	in          *instruments
	row         perRequest
	seriesCache *seriesCache
	backlog     *backlog
	stopped     sync.Once

	mu      sync.Mutex // guards what follows
	sources Sources
	devices map[string]*device
	fixed   map[fixedKey]*options
}

// fixedKey names a set of attributes with few values: two values, of two attributes.
type fixedKey struct{ nameA, a, nameB, b string }

// New makes Metrics and starts the goroutine that records rows; Shutdown ends it.
func New(cfg Config) (*Metrics, error) {
	if len(cfg.Labels) > MaxLabels {
		return nil, fmt.Errorf("metrics: %d labels are to be attributes: more than %d would make too many series", len(cfg.Labels), MaxLabels)
	}
	if cfg.MaxValues <= 0 {
		cfg.MaxValues = 32
	}
	opts := []sdkmetric.Option{
		sdkmetric.WithCardinalityLimit(maxSeries),
		sdkmetric.WithResource(resource.NewWithAttributes(semconv.SchemaURL,
			attribute.String(semconv.ServiceName, semconv.Scope), attribute.String(semconv.ServiceInstanceID, cfg.Instance),
			attribute.String(semconv.ServiceVersion, cfg.Version))),
	}
	for _, r := range cfg.Readers {
		opts = append(opts, sdkmetric.WithReader(r))
	}
	m := &Metrics{
		provider: sdkmetric.NewMeterProvider(opts...), devices: map[string]*device{}, fixed: map[fixedKey]*options{},
		seriesCache: newSeriesCache(slices.Clone(cfg.Labels), cfg.MaxValues),
	}
	scope := m.provider.Meter(semconv.Scope, metric.WithInstrumentationVersion(cfg.Version), metric.WithSchemaURL(semconv.SchemaURL))
	var err error
	if m.in, err = newInstruments(scope); err != nil {
		return nil, err
	}
	m.row = m.in.perRequest()
	m.backlog = newBacklog(m.record)
	if _, err := scope.RegisterCallback(m.observe, m.in.all()...); err != nil {
		m.backlog.stop()
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return m, nil
}

// Shutdown records the rows that wait and ends the readers; push readers send once more, until ctx ends. Rows
// that come later are not counted.
func (m *Metrics) Shutdown(ctx context.Context) error {
	m.stopped.Do(m.backlog.stop)
	if err := m.provider.Shutdown(ctx); err != nil && !errors.Is(err, sdkmetric.ErrReaderShutdown) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// RecordEnded takes the row of a request that is over: it is read a little later, so it must not change. span
// is its trace, for exemplars; an invalid one is none.
func (m *Metrics) RecordEnded(rec *meter.Record, span trace.SpanContext) {
	m.backlog.add(waiting{rec, span, false})
}

// RecordSettled takes a row with final energy columns, under the same rules as RecordEnded.
func (m *Metrics) RecordSettled(rec *meter.Record) {
	m.backlog.add(waiting{rec, trace.SpanContext{}, true})
}

func (m *Metrics) record(w waiting) {
	if w.final {
		m.recordFinal(w.rec)
		return
	}
	m.recordEnded(w.rec, w.span)
}

func (m *Metrics) recordEnded(rec *meter.Record, span trace.SpanContext) {
	s, agent := m.seriesCache.of(rec, true)
	ctx := context.Background()
	if span.IsSampled() {
		ctx = trace.ContextWithSpanContext(ctx, span)
	}
	m.row.requests.Add(ctx, 1, s.of(s.outcomes, rec.Outcome).add...)
	if unread(rec) {
		m.row.failures.Add(ctx, 1, m.static(semconv.Route, rec.Route, semconv.GenAIOperationName, meter.Operation(rec.Dialect)).add...)
	}
	for _, kind := range rec.Disputed() {
		m.row.disputed.Add(ctx, 1, m.static(semconv.Route, rec.Route, semconv.TokenKind, kind).add...)
	}
	for _, what := range rec.Unread() {
		m.row.unread.Add(ctx, 1, m.static(semconv.Route, rec.Route, semconv.Unread, what).add...)
	}
	seconds(ctx, m.row.overhead, rec.ProxyOverheadUs, m.static(semconv.Route, rec.Route, "", ""))
	if rec.Dialect == "" {
		return
	}
	seconds(ctx, m.row.duration, rec.DurationUs, s.of(s.failed, rec.Outcome))
	seconds(ctx, m.row.ttft, rec.TTFTUs, s.genAI)
	if rec.DecodeUs.Valid && rec.OutputTokens.V >= 2 {
		m.row.tpot.Record(ctx, float64(rec.DecodeUs.V)/1e6/float64(rec.OutputTokens.V-1), s.genAI.record...)
	}
	seconds(ctx, m.row.itl, rec.ITLP50Us, s.values[statP50])
	seconds(ctx, m.row.itl, rec.ITLP99Us, s.values[statP99])
	seconds(ctx, m.row.itl, rec.ITLMaxUs, s.values[statMax])
	seconds(ctx, m.row.phase, rec.LoadUs, s.values[phaseLoad])
	seconds(ctx, m.row.phase, rec.QueueUs, s.values[phaseQueue])
	seconds(ctx, m.row.phase, rec.PrefillUs, s.values[phasePrefill])
	seconds(ctx, m.row.phase, rec.DecodeUs, s.values[phaseDecode])
	count(ctx, m.row.stalls, rec.Stalls, 1, s.plain)
	if rec.PromptTokens.Valid {
		m.row.usage.Record(ctx, float64(rec.PromptTokens.V), s.input.record...)
	}
	if rec.OutputTokens.Valid {
		m.row.usage.Record(ctx, float64(rec.OutputTokens.V), s.output.record...)
	}
	count(ctx, m.row.tokens, rec.PromptTokens, 1, s.values[tokensPrompt])
	count(ctx, m.row.tokens, rec.CachedTokens, 1, s.values[tokensCached])
	count(ctx, m.row.tokens, rec.OutputTokens, 1, s.values[tokensOutput])
	count(ctx, m.row.tokens, rec.ReasoningTokens, 1, s.values[tokensThought])
	m.row.agentRequests.Add(ctx, 1, m.static(semconv.Agent, agent, semconv.Outcome, string(rec.Outcome)).add...)
	seconds(ctx, m.row.agentTTFT, rec.TTFTUs, m.static(semconv.Agent, agent, "", ""))
	count(ctx, m.row.agentTokens, rec.PromptTokens, 1, m.static(semconv.Agent, agent, semconv.TokenKind, tokensPrompt))
	count(ctx, m.row.agentTokens, rec.CachedTokens, 1, m.static(semconv.Agent, agent, semconv.TokenKind, tokensCached))
	count(ctx, m.row.agentTokens, rec.OutputTokens, 1, m.static(semconv.Agent, agent, semconv.TokenKind, tokensOutput))
}

// unread reports whether an answered request on a metered path could not be metered: the row then has
// wattline's reason in its error, as the exchange itself went well.
func unread(rec *meter.Record) bool {
	return rec.Dialect != "" && rec.Error != "" && rec.Outcome == meter.OK
}

func (m *Metrics) recordFinal(rec *meter.Record) {
	ctx := context.Background()
	m.row.settled.Add(ctx, 1, m.static(semconv.Route, rec.Route, semconv.Quality, rec.EnergyQuality).add...)
	if !rec.EnergyUj().Valid {
		return
	}
	s, agent := m.seriesCache.of(rec, false)
	if rec.Dialect != "" {
		count(ctx, m.row.agentEnergy, rec.EnergyUj(), 1e6, m.static(semconv.Agent, agent, "", ""))
	}
	if rec.OutputTokens.V > 0 {
		m.row.jPerTok.Record(ctx, float64(rec.SlotUj().V)/1e6/float64(rec.OutputTokens.V), s.plain.record...)
	}
	if !rec.GPUUj.Valid {
		return
	}
	if rec.GPUPrefillUj.Valid && rec.GPUDecodeUj.Valid && rec.GPUIdleUj.Valid {
		count(ctx, m.row.energy, rec.GPUPrefillUj, 1e6, s.values[phasePrefill])
		count(ctx, m.row.energy, rec.GPUDecodeUj, 1e6, s.values[phaseDecode])
		count(ctx, m.row.energy, rec.GPUIdleUj, 1e6, s.values[phaseIdle])
	} else {
		count(ctx, m.row.energy, rec.GPUUj, 1e6, s.values[phaseUndivided])
	}
	for i, name := range rec.GPUDevices {
		if i < len(rec.GPUUjByDevice) {
			count(ctx, m.row.deviceShare, meter.Some(rec.GPUUjByDevice[i]), 1e6, m.static(semconv.HWID, name, semconv.HWType, semconv.HWGPU))
		}
	}
}

// static returns attributes that have few values: those that no client can choose, and agents as they are counted.
func (m *Metrics) static(nameA, a, nameB, b string) *options {
	k := fixedKey{nameA, a, nameB, b}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.fixed[k]
	if !ok {
		var kv []attribute.KeyValue
		if a != "" {
			kv = append(kv, attribute.String(nameA, a))
		}
		if b != "" {
			kv = append(kv, attribute.String(nameB, b))
		}
		o = newOptions(kv...)
		m.fixed[k] = o
	}
	return o
}

// count adds a column that counts so many parts a unit, null not at all. A counter cannot go down: negative values, which
// no column should have, are left out.
func count(ctx context.Context, c metric.Float64Counter, v meter.Int, perUnit float64, o *options) {
	if v.Valid && v.V >= 0 {
		c.Add(ctx, float64(v.V)/perUnit, o.add...)
	}
}

// seconds records a column of microseconds, null not at all.
func seconds(ctx context.Context, h metric.Float64Histogram, us meter.Int, o *options) {
	if us.Valid {
		h.Record(ctx, float64(us.V)/1e6, o.record...)
	}
}

// Power takes a row of table power.
func (m *Metrics) Power(p *sink.Power) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.device(p.Device)
	d.last, d.source = *p, p.Source
	if p.EnergyUj.Valid {
		d.energyUj += p.EnergyUj.V
	}
	if p.ThrottledUs.Valid {
		d.held = meter.Some(d.held.V + p.ThrottledUs.V)
	}
}

// Ledger takes a row of table ledger.
func (m *Metrics) Ledger(l *sink.Ledger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.device(l.Device)
	for account, v := range map[string]meter.Int{
		accountCounter: l.CounterUj, accountActive: l.RequestsActiveUj, accountRequestIdle: l.RequestsIdleUj,
		accountPools: l.PoolsUj, accountIdle: l.IdleUj, accountResidual: l.ResidualUj,
	} {
		if v.Valid {
			d.ledgerUj[account] += v.V
		}
	}
}

func (m *Metrics) device(name string) *device {
	d := m.devices[name]
	if d == nil {
		d = &device{ledgerUj: map[string]int64{}}
		m.devices[name] = d
	}
	return d
}
