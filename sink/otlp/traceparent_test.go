package otlp

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// library returns what OpenTelemetry's own propagator reads from a traceparent.
func library(s string) (trace.SpanContext, bool) {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": s})
	sc := trace.SpanContextFromContext(ctx)
	return sc, sc.IsValid()
}

func traceparents() []string {
	const id = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
	return []string{
		"00-" + id + "-01", "00-" + id + "-00", "00-" + id + "-03", "00-" + id + "-01-", "00-" + id + "-01-more",
		"01-" + id + "-01-more", "cc-" + id + "-01", "ff-" + id + "-01", "00-" + id, "", "00", "00-" + id + "-1",
		"00-" + strings.ToUpper(id) + "-01", "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-" + strings.Repeat("0", 16) + "-01", "0g-" + id + "-01", "00_" + id + "-01",
		"01-" + id + "-01more", " 00-" + id + "-01",
	}
}

// agrees reports where our reading and the library's differ. The library lets version 00 end in a dash,
// which the W3C does not, and refuses flags of version 00 that it does not know, which the W3C has ignored.
func agrees(t *testing.T, s string) {
	t.Helper()
	p, ok := parseTraceparent([]byte(s))
	want, valid := library(s)
	lenient := strings.HasPrefix(s, "00-") && strings.HasSuffix(s, "-")
	if valid && !ok && !lenient {
		t.Errorf("%q is refused", s)
		return
	}
	if !ok || !valid {
		return
	}
	if p.trace != want.TraceID() || p.span != want.SpanID() || p.flags.IsSampled() != want.IsSampled() {
		t.Errorf("%q is read as %v %v %v, the library reads %v", s, p.trace, p.span, p.flags, want)
	}
}

func TestTraceparentIsReadAsOthersReadIt(t *testing.T) {
	for _, s := range traceparents() {
		agrees(t, s)
	}
	accepted := 0
	for _, s := range traceparents() {
		if _, ok := parseTraceparent([]byte(s)); ok {
			accepted++
		}
	}
	if accepted != 5 {
		t.Errorf("%d of the list are accepted; 5 are valid by the W3C's text", accepted)
	}
}

func FuzzTraceparent(f *testing.F) {
	for _, s := range traceparents() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		agrees(t, s)
		if p, ok := parseTraceparent([]byte(s)); ok {
			again, ok := parseTraceparent([]byte(formatTraceparent(p.trace, p.span, p.flags)))
			if !ok || again != p {
				t.Errorf("%q does not survive being written: %v, %v", s, p, again)
			}
		}
	})
}

func TestIDsAreValidAndDiffer(t *testing.T) {
	traces, spans := map[trace.TraceID]bool{}, map[trace.SpanID]bool{}
	for range 1000 {
		tid, sid := newTraceID(), newSpanID()
		if !tid.IsValid() || !sid.IsValid() || traces[tid] || spans[sid] {
			t.Fatalf("%v %v", tid, sid)
		}
		traces[tid], spans[sid] = true, true
	}
}
