package otlp

import (
	"time"

	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wattline/meter"
	"wattline/sink/semconv"
)

// interval is an interval of time in microseconds after P0.
type interval struct{ from, to int64 }

// within returns the part of i that lies in outer, so that a child never leaves its parent. An interval that lies outside
// becomes empty at the nearer end.
func (i interval) within(outer interval) interval {
	from := min(max(i.from, outer.from), outer.to)
	return interval{from, min(max(i.to, from), outer.to)}
}

// nanoInterval is an interval of time in nanoseconds after P0.
type nanoInterval struct{ from, to int64 }

// nanoseconds returns i in nanoseconds. An interval shorter than a microsecond, such as the decode phase of a single
// token, gets one nanosecond: Jaeger warns of spans that end when they start.
func (i interval) nanoseconds(outer interval) nanoInterval {
	s := nanoInterval{i.from * 1000, i.to * 1000}
	switch {
	case s.from != s.to:
	case i.to < outer.to || outer.from == outer.to:
		s.to++
	default: // at its parent's end
		s.from--
	}
	return s
}

// layout holds where a request's spans lie. The row's columns are differences between marks; P1 - P0, which is not a
// column, places them after P0.
type layout struct {
	server, client               interval
	load, queue, prefill, decode interval
	first                        int64 // T1
	hasClient                    bool
	hasLoad                      bool
	hasQueue                     bool
	hasPrefill                   bool
	hasDecode                    bool
	hasFirst                     bool
}

// layoutOf places the spans of a row on the time since P0. p1 is P1 - P0.
//
// Streamed: S = P1 + load + queue, T1 = P1 + upstream_ttft; prefill starts at S, or, where S is not known, ends
// at T1. Not streamed: decode ends at E, prefill where decode starts, queue where prefill starts, as S
// is defined there, and load where queue starts.
func layoutOf(rec *meter.Record, p1 meter.Int) layout {
	var p layout
	end := rec.DurationUs.V
	p.server.to = max(end, rec.TTFTUs.V)
	if rec.TTFTUs.Valid && rec.DecodeUs.Valid {
		p.server.to = max(p.server.to, rec.TTFTUs.V+rec.DecodeUs.V) // Wn, see view efficiency
	}
	if rec.Outcome == meter.Rejected {
		return p
	}
	p.hasClient, p.client = true, interval{0, end}
	if rec.Stream.Valid && rec.Stream.V == 0 {
		p.layBackward(rec, end)
	} else if p1.Valid {
		p.layForward(rec, p1.V)
	}
	p.load, p.queue, p.prefill, p.decode = p.load.within(p.client), p.queue.within(p.client), p.prefill.within(p.client), p.decode.within(p.client)
	p.first = min(max(p.first, 0), end)
	return p
}

func (p *layout) layForward(rec *meter.Record, p1 int64) {
	if p.hasLoad = rec.LoadUs.Valid; p.hasLoad {
		p.load = interval{p1, p1 + rec.LoadUs.V}
	}
	if p.hasQueue = rec.QueueUs.Valid; p.hasQueue {
		p.queue = interval{p1 + rec.LoadUs.V, p1 + rec.BeforeSlotUs().V}
	}
	if p.hasFirst = rec.UpstreamTTFTUs.Valid; p.hasFirst {
		p.first = p1 + rec.UpstreamTTFTUs.V
	}
	if p.hasPrefill = rec.PrefillUs.Valid && (p.hasQueue || p.hasFirst); p.hasPrefill {
		p.prefill = interval{p.queue.to, p.queue.to + rec.PrefillUs.V}
		if !p.hasQueue {
			p.prefill = interval{p.first - rec.PrefillUs.V, p.first}
		}
	}
	if p.hasDecode = rec.DecodeUs.Valid && p.hasFirst; p.hasDecode {
		p.decode = interval{p.first, p.first + rec.DecodeUs.V}
	}
}

func (p *layout) layBackward(rec *meter.Record, end int64) {
	if p.hasDecode = rec.DecodeUs.Valid; !p.hasDecode {
		return
	}
	p.decode = interval{end - rec.DecodeUs.V, end}
	if p.hasPrefill = rec.PrefillUs.Valid; !p.hasPrefill {
		return
	}
	p.prefill = interval{p.decode.from - rec.PrefillUs.V, p.decode.from}
	if p.hasQueue = rec.QueueUs.Valid; p.hasQueue {
		p.queue = interval{p.prefill.from - rec.QueueUs.V, p.prefill.from}
		if p.hasLoad = rec.LoadUs.Valid; p.hasLoad {
			p.load = interval{p.queue.from - rec.LoadUs.V, p.queue.from}
		}
	}
}

// batchResource returns the resource and scope that all batches share.
func batchResource(instance, version string) *tracepb.ResourceSpans {
	var a attributes
	a.text(semconv.ServiceName, semconv.Scope)
	a.text(semconv.ServiceInstanceID, instance)
	a.text(semconv.ServiceVersion, version)
	return &tracepb.ResourceSpans{
		Resource:  &resourcepb.Resource{Attributes: a},
		SchemaUrl: semconv.SchemaURL,
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: semconv.Scope, Version: version}, SchemaUrl: semconv.SchemaURL,
		}},
	}
}

// batchOf makes one batch of traces; shared comes from batchResource and is not changed.
func batchOf(shared *tracepb.ResourceSpans, traces []finishedTrace) []*tracepb.ResourceSpans {
	spans := make([]*tracepb.Span, 0, 5*len(traces))
	for _, j := range traces {
		spans = append(spans, buildSpans(j.state, j.rec)...)
	}
	scope := shared.GetScopeSpans()[0]
	return []*tracepb.ResourceSpans{{
		Resource: shared.GetResource(), SchemaUrl: shared.GetSchemaUrl(),
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: scope.GetScope(), SchemaUrl: scope.GetSchemaUrl(), Spans: spans}},
	}}
}

// buildSpans makes a request's spans, the SERVER span first.
func buildSpans(n *traceState, rec *meter.Record) []*tracepb.Span {
	at := layoutOf(rec, n.p1Us)
	b := spanBuilder{state: n, p0: rec.StartedAt}
	server := b.span(serverName(rec), tracepb.Span_SPAN_KIND_SERVER, n.server, n.parent, at.server.nanoseconds(at.server))
	server.Attributes, server.Status = serverAttributes(rec, n.scheme), serverStatus(rec)
	if n.linked != nil {
		server.Links = []*tracepb.Span_Link{{TraceId: n.linked.trace[:], SpanId: n.linked.span[:], Flags: uint32(n.linked.flags) | contextIsRemote}}
	}
	spans := append(make([]*tracepb.Span, 0, 5), server)
	if !at.hasClient {
		return spans
	}
	client := b.span(clientName(rec), tracepb.Span_SPAN_KIND_CLIENT, n.client, n.server, at.client.nanoseconds(at.server))
	d := rec.Details
	if d == nil {
		d = new(meter.Details)
	}
	client.Attributes, client.Status = clientAttributes(rec, d), clientStatus(rec)
	if at.hasFirst {
		client.Events = []*tracepb.Span_Event{{Name: semconv.EventFirst, TimeUnixNano: b.time(at.first)}}
	}
	spans = append(spans, client)
	for _, phase := range []struct {
		name string
		has  bool
		at   interval
		say  func(*meter.Record, *meter.Details) attributes
	}{
		{semconv.SpanLoad, at.hasLoad, at.load, loadAttributes},
		{semconv.SpanQueue, at.hasQueue, at.queue, queueAttributes},
		{semconv.SpanPrefill, at.hasPrefill, at.prefill, prefillAttributes},
		{semconv.SpanDecode, at.hasDecode, at.decode, decodeAttributes},
	} {
		if !phase.has {
			continue
		}
		s := b.span(phase.name, tracepb.Span_SPAN_KIND_INTERNAL, newSpanID(), n.client, phase.at.nanoseconds(at.client))
		s.Attributes = phase.say(rec, d)
		spans = append(spans, s)
	}
	return spans
}

// Bits of a span's flags above those of the trace (OTLP's SpanFlags): whether it is known that the
// parent, or the linked span, is another process's, and whether it is.
const (
	contextHasIsRemote = 0x100
	contextIsRemote    = 0x100 | 0x200
)

// spanBuilder makes spans of one trace.
type spanBuilder struct {
	state *traceState
	p0    time.Time
}

func (b spanBuilder) span(name string, kind tracepb.Span_SpanKind, id, parent trace.SpanID, at nanoInterval) *tracepb.Span {
	s := &tracepb.Span{
		TraceId: b.state.trace[:], SpanId: id[:], TraceState: b.state.state, Name: clean(name), Kind: kind,
		StartTimeUnixNano: uint64(b.p0.UnixNano() + at.from), EndTimeUnixNano: uint64(b.p0.UnixNano() + at.to),
		Flags: uint32(b.state.flags) | contextHasIsRemote,
	}
	if parent.IsValid() {
		s.ParentSpanId = parent[:]
		if parent == b.state.parent {
			s.Flags |= contextIsRemote
		}
	}
	return s
}

func (b spanBuilder) time(us int64) uint64 { return uint64(b.p0.UnixNano() + us*1000) }
