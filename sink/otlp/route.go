package otlp

import (
	"sync"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
)

// Route follows the requests of one proxy.Server; it satisfies proxy.Tracer. For each request the proxy
// calls Trace, and the proxy's observer hands on Sent and Ended, in this order.
type Route struct {
	tracer *Tracer
	scheme string

	mu   sync.Mutex // guards open
	open map[uint64]*traceState
}

// maxTracestate is the longest tracestate that is copied into spans: what the W3C asks everyone to
// carry. The header itself passes whatever its length.
const maxTracestate = 512

// Trace decides about the request's trace and returns the traceparent that goes upstream, which names
// the CLIENT span, and the trace id for the row. header returns a request header's first value or nil.
func (r *Route) Trace(seq uint64, header func(name string) []byte) (traceparent, traceID string) {
	n := r.decide(header)
	if n.flags.IsSampled() {
		r.mu.Lock()
		r.open[seq] = n
		r.mu.Unlock()
	}
	return formatTraceparent(n.trace, n.client, n.flags), n.trace.String()
}

func (r *Route) decide(header func(name string) []byte) *traceState {
	n := &traceState{server: newSpanID(), client: newSpanID(), scheme: r.scheme}
	incoming := r.tracer.cfg.Incoming
	if incoming != Ignore {
		p, ok := parseTraceparent(header("traceparent"))
		switch {
		case !ok:
		case incoming == Link:
			n.linked = &p
		default:
			n.trace, n.parent, n.flags = p.trace, p.span, p.flags&(trace.FlagsSampled|trace.FlagsRandom)
			if state := header("tracestate"); len(state) <= maxTracestate && utf8.Valid(state) {
				n.state = string(state)
			}
			return n
		}
	}
	n.trace = newTraceID()
	n.flags = trace.FlagsRandom
	if r.tracer.sampled(n.trace) {
		n.flags |= trace.FlagsSampled
	}
	return n
}

// Sent records when the whole request had been sent upstream: mark P1, in nanoseconds of the proxy's clock.
func (r *Route) Sent(seq uint64, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.open[seq]; n != nil {
		n.sentAt = at
	}
}

// Ended takes the row of a finished request, before other observers do; at is mark E on the proxy's clock. A request
// without a sequence number, because its head was invalid, gets a trace here.
func (r *Route) Ended(seq uint64, at int64, rec *meter.Record) {
	r.mu.Lock()
	n := r.open[seq]
	delete(r.open, seq)
	r.mu.Unlock()
	if seq == 0 {
		n = r.decide(func(string) []byte { return nil })
		rec.TraceID = n.trace.String()
	}
	if n == nil || !n.flags.IsSampled() {
		return
	}
	if n.sentAt != 0 && rec.DurationUs.Valid {
		n.p1Us = meter.Some(max(0, rec.DurationUs.V-(at-n.sentAt)/1000))
	}
	n.ended, n.rec = time.Now(), rec
	r.tracer.await(n)
}

// PassthroughTracer is a proxy.Tracer for when tracing is off: it changes nothing, and lets the row say which
// trace the client is in.
type PassthroughTracer struct{}

// Trace returns the trace id of the client's own traceparent, if it has one.
func (PassthroughTracer) Trace(_ uint64, header func(name string) []byte) (traceparent, traceID string) {
	if p, ok := parseTraceparent(header("traceparent")); ok {
		traceID = p.trace.String()
	}
	return "", traceID
}
