package otlp

import (
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wattline/meter"
	"wattline/sink/otlp/otlptest"
	"wattline/sink/semconv"
)

var update = flag.Bool("update", false, "write the golden trees anew")

// noteOf is the note that goes with a request: ids are random, as in life.
func noteOf(q aRequest) *traceState {
	return &traceState{trace: newTraceID(), server: newSpanID(), client: newSpanID(), flags: 1, p1Us: q.p1, scheme: "http"}
}

func TestTreesAreTheGoldenOnes(t *testing.T) {
	for _, q := range requests() {
		t.Run(q.name, func(t *testing.T) {
			rec := q.rec
			batch := batchOf(batchResource("desk", "v1.2.3"), []finishedTrace{{noteOf(q), &rec}})
			compareGolden(t, q.name, render(received(batch)))
		})
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the tree differs from %s (-update writes it anew):\n--- got\n%s--- want\n%s", path, got, want)
	}
}

// received are a batch's spans as a receiver would understand them.
func received(batch []*tracepb.ResourceSpans) []otlptest.Span {
	var out []otlptest.Span
	for _, rs := range batch {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				span := otlptest.Span{
					TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
					TraceState: s.GetTraceState(), Name: s.GetName(), Kind: int(s.GetKind()),
					Start: int64(s.GetStartTimeUnixNano()), End: int64(s.GetEndTimeUnixNano()), Attributes: attributeMap(s.GetAttributes()),
					StatusCode: int(s.GetStatus().GetCode()), StatusMessage: s.GetStatus().GetMessage(),
					Resource: attributeMap(rs.GetResource().GetAttributes()), Scope: ss.GetScope().GetName(), Schema: rs.GetSchemaUrl(),
				}
				for _, e := range s.GetEvents() {
					span.Events = append(span.Events, otlptest.Event{Name: e.GetName(), At: int64(e.GetTimeUnixNano())})
				}
				for _, l := range s.GetLinks() {
					span.Links = append(span.Links, otlptest.Link{TraceID: hex.EncodeToString(l.GetTraceId()), SpanID: hex.EncodeToString(l.GetSpanId())})
				}
				out = append(out, span)
			}
		}
	}
	return out
}

func attributeMap(kvs []*commonpb.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range kvs {
		m[kv.GetKey()] = attributeValue(kv.GetValue())
	}
	return m
}

func attributeValue(v *commonpb.AnyValue) any {
	switch x := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return x.StringValue
	case *commonpb.AnyValue_BoolValue:
		return x.BoolValue
	case *commonpb.AnyValue_IntValue:
		return float64(x.IntValue)
	case *commonpb.AnyValue_DoubleValue:
		return x.DoubleValue
	case *commonpb.AnyValue_ArrayValue:
		list := []any{}
		for _, e := range x.ArrayValue.GetValues() {
			list = append(list, attributeValue(e))
		}
		return list
	}
	return nil
}

// render writes the spans of one request as a tree, without its random ids: times are microseconds
// after the root's start.
func render(spans []otlptest.Span) string {
	known := map[string]bool{}
	for _, s := range spans {
		known[s.SpanID] = true
	}
	var b strings.Builder
	var write func(parent string, depth int, zero int64)
	write = func(parent string, depth int, zero int64) {
		for _, s := range spans {
			isRoot := !known[s.ParentID]
			if parent == "" && !isRoot || parent != "" && s.ParentID != parent {
				continue
			}
			if isRoot {
				zero = s.Start
				fmt.Fprintf(&b, "resource %v\nscope %s, %s\n", flat(s.Resource), s.Scope, s.Schema)
			}
			in := strings.Repeat("  ", depth)
			kind := strings.ToUpper(strings.TrimPrefix(tracepb.Span_SpanKind(s.Kind).String(), "SPAN_KIND_"))
			fmt.Fprintf(&b, "%s%s %s %d..%d us\n", in, kind, s.Name, (s.Start-zero)/1000, (s.End-zero)/1000)
			if s.StatusCode != 0 {
				fmt.Fprintf(&b, "%s  ! status %d %q\n", in, s.StatusCode, s.StatusMessage)
			}
			for _, e := range s.Events {
				fmt.Fprintf(&b, "%s  * %s at %d us\n", in, e.Name, (e.At-zero)/1000)
			}
			for _, k := range slices.Sorted(maps.Keys(s.Attributes)) {
				fmt.Fprintf(&b, "%s  %s = %v\n", in, k, s.Attributes[k])
			}
			write(s.SpanID, depth+1, zero)
		}
	}
	write("", 0, 0)
	return b.String()
}

func flat(m map[string]any) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return strings.Join(parts, " ")
}

// What an upstream says of an error can quote the request: it must not reach a span.
func TestSpansHoldNothingThatTheUpstreamSaid(t *testing.T) {
	for _, q := range requests() {
		rec := q.rec
		text := render(received(batchOf(batchResource("desk", ""), []finishedTrace{{noteOf(q), &rec}})))
		if strings.Contains(text, "dear diary") {
			t.Errorf("%s: the upstream's words are in a span:\n%s", q.name, text)
		}
	}
}

func TestRoutesNameNoIDs(t *testing.T) {
	rec := ok()
	rec.Dialect, rec.Path = "resume", "/v1/stream/conversation-17"
	if got := serverName(&rec); got != "POST /v1/stream/{id}" {
		t.Errorf("a resumed stream's span is named %q", got)
	}
}

// TRACES.md lists every attribute that a span can have.
func TestDocumentationListsTheAttributes(t *testing.T) {
	doc, err := os.ReadFile("TRACES.md")
	if err != nil {
		t.Fatal(err)
	}
	full := ok()
	for _, c := range meter.Columns() { // nothing is null in this row
		switch p := c.Ptr(&full).(type) {
		case *meter.Int:
			p.Valid, p.V = true, max(p.V, 1)
		case *string:
			if *p == "" {
				*p = "x"
			}
		case **meter.Details:
			*p = &meter.Details{
				RequestedModel: "a", Temperature: meter.Float{V: 1, Valid: true}, Seed: some(1), Completions: some(2), Slot: some(0),
				QueueSource: meter.SourceHead, PrefillSource: meter.SourceServer, DecodeSource: meter.SourceMarks,
			}
		}
	}
	rows := []aRequest{{"full", some(200), full}}
	for _, q := range append(rows, requests()...) {
		rec := q.rec
		for _, s := range received(batchOf(batchResource("desk", ""), []finishedTrace{{noteOf(q), &rec}})) {
			for name := range s.Attributes {
				if strings.HasPrefix(name, semconv.LabelPrefix) {
					name = semconv.LabelPrefix + "KEY"
				}
				if !strings.Contains(string(doc), "`"+name+"`") {
					t.Errorf("TRACES.md does not list %s, which span %s has", name, s.Name)
				}
			}
		}
	}
}
