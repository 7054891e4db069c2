package otlptest

import "encoding/json"

// Span is a span as the receiver understood it. Times are Unix nanoseconds; Attributes hold strings,
// bools, float64 (also for integers) and []any.
type Span struct {
	TraceID, SpanID, ParentID string
	TraceState                string
	Name                      string
	Kind                      int // OTLP's: 1 internal, 2 server, 3 client
	Start, End                int64
	Attributes                map[string]any
	Events                    []Event
	Links                     []Link
	StatusCode                int // 2 is an error
	StatusMessage             string
	Resource                  map[string]any
	Scope, Schema             string
}

// Event is an event of a Span.
type Event struct {
	Name string
	At   int64
}

// Link names another span.
type Link struct{ TraceID, SpanID string }

// JaegerSpan is a span as the collector's translator makes it for Jaeger.
type JaegerSpan struct {
	TraceID       string `json:"trace_id"` // base64
	SpanID        string `json:"span_id"`
	OperationName string `json:"operation_name"`
	References    []struct {
		TraceID string `json:"trace_id"`
		SpanID  string `json:"span_id"`
	} `json:"references"`
	StartTime string `json:"start_time"`
	Duration  int64  `json:"duration"` // ns
	Tags      []struct {
		Key  string `json:"key"`
		VStr string `json:"v_str"`
	} `json:"tags"`
	Logs []json.RawMessage `json:"logs"`
}

type jaegerBatch struct {
	Spans []JaegerSpan `json:"spans"`
}

// Metric is a metric as the receiver understood it.
type Metric struct {
	Name, Unit, Description string
	Kind                    string // sum, gauge or histogram
	Monotonic               bool
	Points                  []Point
}

// Point is one series of a Metric. Value is a sum's or gauge's; Count, Sum, Bounds and Buckets are a
// histogram's.
type Point struct {
	Attributes map[string]any
	Value      float64
	Count      int64
	Sum        float64
	Bounds     []float64
	Buckets    []int64
	Exemplars  []Exemplar
}

// Exemplar links a Point to a span.
type Exemplar struct{ TraceID, SpanID string }

// The types below are OTLP's JSON encoding, as far as it is looked at.

type keyValues []struct {
	Key   string
	Value valueJSON
}

type valueJSON struct {
	StringValue *string
	BoolValue   *bool
	IntValue    *int64 `json:",string"`
	DoubleValue *float64
	ArrayValue  *struct{ Values []valueJSON }
}

func (v valueJSON) any() any {
	switch {
	case v.StringValue != nil:
		return *v.StringValue
	case v.BoolValue != nil:
		return *v.BoolValue
	case v.IntValue != nil:
		return float64(*v.IntValue)
	case v.DoubleValue != nil:
		return *v.DoubleValue
	case v.ArrayValue != nil:
		list := []any{}
		for _, x := range v.ArrayValue.Values {
			list = append(list, x.any())
		}
		return list
	}
	return nil
}

func (kv keyValues) toMap() map[string]any {
	m := map[string]any{}
	for _, x := range kv {
		m[x.Key] = x.Value.any()
	}
	return m
}

type tracesJSON struct {
	ResourceSpans []struct {
		Resource   struct{ Attributes keyValues }
		SchemaURL  string
		ScopeSpans []struct {
			Scope struct{ Name string }
			Spans []struct {
				TraceID, SpanID, ParentSpanID, TraceState string
				Name                                      string
				Kind                                      int
				StartTimeUnixNano                         int64 `json:",string"`
				EndTimeUnixNano                           int64 `json:",string"`
				Attributes                                keyValues
				Events                                    []struct {
					Name         string
					TimeUnixNano int64 `json:",string"`
				}
				Links  []Link
				Status struct {
					Code    int
					Message string
				}
			}
		}
	}
}

func (t *tracesJSON) spans() []Span {
	var out []Span
	for _, rs := range t.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				span := Span{
					TraceID: s.TraceID, SpanID: s.SpanID, ParentID: s.ParentSpanID, TraceState: s.TraceState, Name: s.Name, Kind: s.Kind,
					Start: s.StartTimeUnixNano, End: s.EndTimeUnixNano, Attributes: s.Attributes.toMap(), Links: s.Links,
					StatusCode: s.Status.Code, StatusMessage: s.Status.Message,
					Resource: rs.Resource.Attributes.toMap(), Scope: ss.Scope.Name, Schema: rs.SchemaURL,
				}
				for _, e := range s.Events {
					span.Events = append(span.Events, Event{e.Name, e.TimeUnixNano})
				}
				out = append(out, span)
			}
		}
	}
	return out
}

type pointJSON struct {
	Attributes     keyValues
	AsInt          *int64 `json:",string"`
	AsDouble       *float64
	Count          int64 `json:",string"`
	Sum            float64
	ExplicitBounds []float64
	BucketCounts   []json.Number
	Exemplars      []Exemplar
}

type dataJSON struct {
	DataPoints  []pointJSON
	IsMonotonic bool
}

type metricsJSON struct {
	ResourceMetrics []struct {
		ScopeMetrics []struct {
			Metrics []struct {
				Name, Unit, Description string
				Sum, Gauge, Histogram   *dataJSON
			}
		}
	}
}

func (m *metricsJSON) metrics() []Metric {
	var out []Metric
	for _, rm := range m.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, x := range sm.Metrics {
				got := Metric{Name: x.Name, Unit: x.Unit, Description: x.Description}
				for kind, d := range map[string]*dataJSON{"sum": x.Sum, "gauge": x.Gauge, "histogram": x.Histogram} {
					if d == nil {
						continue
					}
					got.Kind, got.Monotonic = kind, d.IsMonotonic
					for _, p := range d.DataPoints {
						got.Points = append(got.Points, p.point())
					}
				}
				out = append(out, got)
			}
		}
	}
	return out
}

func (p pointJSON) point() Point {
	out := Point{Attributes: p.Attributes.toMap(), Count: p.Count, Sum: p.Sum, Bounds: p.ExplicitBounds, Exemplars: p.Exemplars}
	switch {
	case p.AsInt != nil:
		out.Value = float64(*p.AsInt)
	case p.AsDouble != nil:
		out.Value = *p.AsDouble
	}
	for _, n := range p.BucketCounts {
		v, _ := n.Int64() // digits, as OTLP writes them
		out.Buckets = append(out.Buckets, v)
	}
	return out
}
