package otlp

import (
	"context"
	"strings"
	"testing"
	"time"

	"wattline/sink/otlp/otlptest"
)

// send sends every request of the golden trees to a collector through a Tracer, as life would.
func send(t *testing.T, raw string, protocol Protocol) {
	t.Helper()
	e, err := ParseEndpoint(raw, protocol)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client, err := e.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tracer, err := New(Config{Upload: client, Ratio: 1, Instance: "desk", Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range requests() {
		n, rec := noteOf(q), q.rec
		rec.ID += q.name // each its own
		n.ended, n.rec = time.Now(), &rec
		tracer.await(n)
		tracer.Settled(&rec)
	}
	if err := tracer.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := client.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if s := tracer.Stats(); s.Sent != uint64(len(requests())) || s.Dropped+s.Failed+s.SpansRejected != 0 || s.Waiting != 0 {
		t.Errorf("after %d traces the counters are %+v", len(requests()), s)
	}
}

// spanCount counts the spans of the golden trees.
func spanCount(t *testing.T) int {
	t.Helper()
	n := 0
	for _, q := range requests() {
		rec := q.rec
		n += len(buildSpans(noteOf(q), &rec))
	}
	return n
}

// The OpenTelemetry collector's receiver understood the golden trees, over both
// protocols; and what its translator hands to Jaeger is the same waterfall.
func TestRealCollectorReceivesTheGoldenTrees(t *testing.T) {
	for _, protocol := range []Protocol{GRPC, HTTP} {
		t.Run(string(protocol), func(t *testing.T) {
			c := otlptest.Start(t)
			at := map[Protocol]string{GRPC: c.GRPC, HTTP: c.HTTP}[protocol]
			send(t, "http://"+at, protocol)

			byTrace := map[string][]otlptest.Span{}
			for _, s := range c.Spans(t, spanCount(t)) {
				byTrace[s.TraceID] = append(byTrace[s.TraceID], s)
			}
			if len(byTrace) != len(requests()) {
				t.Fatalf("%d traces arrived, %d were sent", len(byTrace), len(requests()))
			}
			for _, spans := range byTrace {
				id, _ := spans[0].Attributes["wattline.request.id"].(string)
				name := strings.TrimPrefix(id, ok().ID)
				compareGolden(t, name, strings.Replace(render(spans), id, ok().ID, 1))
			}
			compareJaeger(t, c.Jaeger(t, spanCount(t)))
		})
	}
}

// compareJaeger looks at the one queued request of the golden trees as Jaeger gets it.
func compareJaeger(t *testing.T, all []otlptest.JaegerSpan) {
	t.Helper()
	trace := ""
	for _, s := range all {
		for _, tag := range s.Tags {
			if tag.Key == "wattline.request.id" && strings.HasSuffix(tag.VStr, "queued") {
				trace = s.TraceID
			}
		}
	}
	got := map[string]otlptest.JaegerSpan{}
	for _, s := range all {
		if s.TraceID == trace {
			got[s.OperationName] = s
		}
	}
	parents := map[string]string{"chat qwen3-8b": "POST /v1/chat/completions", "queue": "chat qwen3-8b", "prefill": "chat qwen3-8b", "decode": "chat qwen3-8b"}
	lengths := map[string]time.Duration{
		"POST /v1/chat/completions": 4_040_400 * time.Microsecond, "chat qwen3-8b": 4_040_400 * time.Microsecond,
		"queue": 3 * time.Second, "prefill": 40 * time.Millisecond, "decode": time.Second,
	}
	if len(got) != len(lengths) {
		t.Fatalf("Jaeger gets %d spans of the queued request: %v", len(got), got)
	}
	for name, want := range lengths {
		if s := got[name]; time.Duration(s.Duration) != want {
			t.Errorf("Jaeger's %s lasts %v, not %v", name, time.Duration(s.Duration), want)
		}
		if p := parents[name]; p != "" && (len(got[name].References) != 1 || got[name].References[0].SpanID != got[p].SpanID) {
			t.Errorf("Jaeger's %s does not lie under %s: %v", name, p, got[name].References)
		}
	}
	if n := len(got["chat qwen3-8b"].Logs); n != 1 {
		t.Errorf("Jaeger gets %d events of the CLIENT span, not the first token's alone", n)
	}
}
