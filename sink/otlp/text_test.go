package otlp

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"wattline/meter"
)

// Whatever bytes a client sends, the batch can be encoded, and stays small.
func TestAnyTextCanBeSent(t *testing.T) {
	for name, text := range map[string]string{
		"not UTF-8": "\xff\xfe bad \xc3", "long": strings.Repeat("é", 40_000), "long and not UTF-8": strings.Repeat("\x80", 60_000), "zero": "a\x00b",
	} {
		rec := ok()
		for _, c := range meter.Columns() {
			if p, is := c.Ptr(&rec).(*string); is && c.Name != "upstream" {
				*p = text
			}
		}
		rec.Error, rec.Outcome, rec.Labels = text, meter.Truncated, map[string]string{text: text}
		for _, dialect := range []string{"", meter.DialectChat, meter.DialectResume} {
			rec.Dialect = dialect
			for _, span := range buildSpans(noteOf(aRequest{p1: some(1)}), &rec) {
				b, err := proto.Marshal(span)
				if err != nil {
					t.Errorf("%s, dialect %q: span %.20q cannot be sent: %v", name, dialect, span.GetName(), err)
				}
				if len(b) > 40*maxText {
					t.Errorf("%s, dialect %q: a span has %d bytes", name, dialect, len(b))
				}
			}
		}
	}
}
