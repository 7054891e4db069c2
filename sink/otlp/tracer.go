package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
)

// Incoming says how the trace in a client's traceparent is treated.
type Incoming string

// The ways to treat an incoming traceparent.
const (
	Continue Incoming = "continue" // our spans join the client's trace, and follow its decision to sample
	Link     Incoming = "link"     // a trace of our own, which names the client's
	Ignore   Incoming = "ignore"   // a trace of our own
)

// Config configures a Tracer. Upload is required.
type Config struct {
	// Upload sends spans; see Client. It is called from one goroutine.
	Upload Uploader
	// Incoming says how a client's trace is treated; "" is Continue.
	Incoming Incoming
	// Ratio is the share of new traces that are recorded, 0 to 1. A trace that is continued follows its
	// parent instead, whatever Ratio says.
	Ratio float64
	// Instance and Version describe this wattline in every batch.
	Instance, Version string
	// Capacity is how many traces wait for their row and how many for the collector, each (default 4096,
	// about 3 KB each). Beyond it the newest are dropped and counted.
	Capacity int
	// MaxWait is how long an ended request's trace waits for its row to become final before it is sent
	// as it is (default 2 min; a row settles within 30 s).
	MaxWait time.Duration
	// FlushInterval is how long the first trace of a batch waits for more traces (default 1 s).
	FlushInterval time.Duration
	Log           *slog.Logger
}

func (c *Config) setDefaults() error {
	if c.Upload == nil {
		return fmt.Errorf("otlp: a Tracer needs an Uploader")
	}
	if c.Ratio < 0 || c.Ratio > 1 {
		return fmt.Errorf("otlp: the share of traces to record is %g: it must be from 0 to 1", c.Ratio)
	}
	switch c.Incoming {
	case "":
		c.Incoming = Continue
	case Continue, Link, Ignore:
	default:
		return fmt.Errorf("otlp: an incoming trace can be continued, linked or ignored, not %q", c.Incoming)
	}
	if c.Capacity <= 0 {
		c.Capacity = 4096
	}
	if c.MaxWait <= 0 {
		c.MaxWait = 2 * time.Minute
	}
	if c.FlushInterval <= 0 {
		c.FlushInterval = time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// traceState holds the fields of a trace that its row does not have. It is made when the request is forwarded, complete when it
// has ended, and not written after that.
type traceState struct {
	trace          trace.TraceID
	server, client trace.SpanID
	parent         trace.SpanID // zero: server is the trace's root
	linked         *parent      // Link: the client's own trace
	state          string       // tracestate, when the client's trace goes on
	flags          trace.TraceFlags

	sentAt int64     // P1 on the proxy's clock, ns; 0: never
	p1Us   meter.Int // P1 - P0
	scheme string    // of the route

	ended time.Time
	rec   *meter.Record // the row as it was at the end
}

// Tracer makes traces of finished rows. New starts one goroutine, which sends; Stop ends it.
type Tracer struct {
	cfg  Config
	root sdktrace.Sampler
	out  *sender

	mu      sync.Mutex             // guards what follows
	waiting map[string]*traceState // ended, by row id: not final yet
	dropped uint64                 // traces dropped because waiting was full
}

// New starts a Tracer.
func New(cfg Config) (*Tracer, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	t := &Tracer{cfg: cfg, root: sdktrace.TraceIDRatioBased(cfg.Ratio), waiting: map[string]*traceState{}}
	t.out = newSender(cfg, t.takeExpired)
	return t, nil
}

// Route returns the tracer of one route. Sequence numbers are a route's own. Scheme is what its clients
// speak: http or https.
func (t *Tracer) Route(scheme string) *Route {
	return &Route{tracer: t, scheme: scheme, open: map[uint64]*traceState{}}
}

// sampled decides about a new trace.
func (t *Tracer) sampled(id trace.TraceID) bool {
	return t.root.ShouldSample(sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: id}).Decision == sdktrace.RecordAndSample
}

// await keeps an ended request's state until Settled.
func (t *Tracer) await(n *traceState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= t.cfg.Capacity {
		t.dropped++
		return
	}
	t.waiting[n.rec.ID] = n
}

// Span returns the SERVER span's context of an ended request without a final row, for exemplars;
// invalid where nothing is recorded, or by a nil Tracer.
func (t *Tracer) Span(id string) trace.SpanContext {
	if t == nil {
		return trace.SpanContext{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.waiting[id]
	if n == nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: n.trace, SpanID: n.server, TraceFlags: n.flags})
}

// Settled hands over a row with its final energy. The Tracer reads it later: it must not be changed. Rows that were not sampled are ignored. It never blocks.
func (t *Tracer) Settled(rec *meter.Record) {
	t.mu.Lock()
	n := t.waiting[rec.ID]
	delete(t.waiting, rec.ID)
	t.mu.Unlock()
	if n != nil {
		t.out.offer(finishedTrace{n, rec})
	}
}

// takeExpired takes those from waiting that ended before a time: a row that never becomes final keeps its
// trace and holds no memory.
func (t *Tracer) takeExpired(before time.Time) []finishedTrace {
	t.mu.Lock()
	defer t.mu.Unlock()
	var late []finishedTrace
	for id, n := range t.waiting {
		if n.ended.Before(before) {
			late = append(late, finishedTrace{n, n.rec})
			delete(t.waiting, id)
		}
	}
	return late
}

// Stop sends what waits, also traces without final rows, until ctx ends, and ends the sender. What
// could not be sent by then is counted as failed, and the error says how many traces that were.
func (t *Tracer) Stop(ctx context.Context) error { return t.out.stop(ctx) }

// Stats counts traces; each request has one.
type Stats struct {
	Sent    uint64 // the collector confirmed them
	Dropped uint64 // there was no room for them to wait
	Failed  uint64 // given up after the collector had refused them, or had not answered in time
	Waiting int    // ended, not sent: for their energy or for the collector

	SpansRejected uint64    // spans, of traces that were sent, that the collector said it refused
	LastError     string    // "" while sending works
	LastErrorAt   time.Time // zero if it never failed
}

// Stats returns the counters as they are now.
func (t *Tracer) Stats() Stats {
	s := t.out.snapshot()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Dropped += t.dropped
	s.Waiting += len(t.waiting)
	return s
}
