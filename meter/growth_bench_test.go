package meter_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"wattline/meter"
)

// BenchmarkGrowth is how the metering of a request's body grows with its prompt, in pieces of 64 KiB as the proxy reads them.
// A token is taken for four bytes.
func BenchmarkGrowth(b *testing.B) {
	const words = "look into the file and say what it does; "
	for _, tokens := range []int{1_000, 10_000, 50_000, 200_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			body := []byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat(words, tokens*4/len(words)+1) + `"}]}`)
			var m meter.Meter
			b.ReportAllocs()
			for b.Loop() {
				m.BeginRequest(meter.RequestHead{Method: http.MethodPost, Path: chat})
				for rest := body; len(rest) > 0; {
					n := min(len(rest), 64<<10)
					m.RequestBody(rest[:n])
					rest = rest[n:]
				}
				_ = m.Work()
			}
			b.ReportMetric(float64(len(body))/1024, "body-KiB")
		})
	}
}
