package otlp

import (
	"strings"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"wattline/meter"
)

// attributes collects a span's attributes. Null columns are left out.
type attributes []*commonpb.KeyValue

func (a *attributes) add(key string, v *commonpb.AnyValue) {
	*a = append(*a, &commonpb.KeyValue{Key: key, Value: v})
}

func (a *attributes) text(key, v string) {
	if v != "" {
		a.add(key, textValue(v))
	}
}

func (a *attributes) texts(key string, v []string) {
	if len(v) == 0 {
		return
	}
	list := &commonpb.ArrayValue{Values: make([]*commonpb.AnyValue, len(v))}
	for i, s := range v {
		list.Values[i] = textValue(s)
	}
	a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}})
}

func (a *attributes) integer(key string, v meter.Int) {
	if v.Valid {
		a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v.V}})
	}
}

// flag writes 0 as false and anything else as true.
func (a *attributes) flag(key string, v meter.Int) {
	if v.Valid {
		a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v.V != 0}})
	}
}

// parts writes an integer column in a larger unit, of which it counts so many parts: microjoules with
// 1e6 give joules.
func (a *attributes) parts(key string, v meter.Int, perUnit float64) {
	if v.Valid {
		a.number(key, float64(v.V)/perUnit)
	}
}

func (a *attributes) number(key string, v float64) {
	a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}})
}

func textValue(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: clean(s)}}
}

// maxText is the longest text in a span, in bytes: a path can be as long as a request's head.
const maxText = 1024

// clean returns a client's text as valid UTF-8. Protobuf encodes nothing else: one invalid byte in a User-Agent would
// lose the whole batch.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
