package otlp

import (
	"encoding/hex"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// parent is a client's parsed traceparent (W3C Trace Context, https://www.w3.org/TR/trace-context/).
type parent struct {
	trace trace.TraceID
	span  trace.SpanID
	flags trace.TraceFlags
}

// Offsets within version-traceid-spanid-flags.
const (
	traceAt           = 3
	spanAt            = traceAt + 32 + 1
	flagsAt           = spanAt + 16 + 1
	traceparentLength = flagsAt + 2
)

// parseTraceparent reads a traceparent. Later versions may have more fields after a dash; version 00 may not, and ff is
// invalid. Upper-case digits and ids of nothing but zeros are invalid.
func parseTraceparent(b []byte) (p parent, ok bool) {
	if len(b) < traceparentLength || b[traceAt-1] != '-' || b[spanAt-1] != '-' || b[flagsAt-1] != '-' {
		return parent{}, false
	}
	var version, flags [1]byte
	if !digits(version[:], b[:traceAt-1]) || version[0] == 0xff || !digits(flags[:], b[flagsAt:traceparentLength]) {
		return parent{}, false
	}
	if len(b) > traceparentLength && (version[0] == 0 || b[traceparentLength] != '-') {
		return parent{}, false
	}
	if !digits(p.trace[:], b[traceAt:spanAt-1]) || !digits(p.span[:], b[spanAt:flagsAt-1]) {
		return parent{}, false
	}
	p.flags = trace.TraceFlags(flags[0])
	return p, p.trace.IsValid() && p.span.IsValid()
}

// digits reads lower-case hexadecimal digits.
func digits(dst, src []byte) bool {
	for _, c := range src {
		if c >= 'A' && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

// formatTraceparent writes version 00.
func formatTraceparent(t trace.TraceID, s trace.SpanID, f trace.TraceFlags) string {
	b := make([]byte, 0, traceparentLength)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, s[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{byte(f)})
	return string(b)
}

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		fill(id[:8], rand.Uint64())
		fill(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		fill(id[:], rand.Uint64())
	}
	return id
}

func fill(b []byte, v uint64) {
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
}
