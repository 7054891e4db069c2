package otlp

import (
	"testing"
	"time"

	"wattline/meter"
)

// unasked are the headers of a request that belongs to no trace.
func unasked(string) []byte { return nil }

// traced has so many requests traced, waits until their spans are sent, and returns how many were.
func traced(t *testing.T, ratio float64, requests uint64) uint64 {
	tr, err := New(Config{Upload: &encoder{}, Ratio: ratio, FlushInterval: time.Millisecond, Capacity: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r := tr.Route("http")
	row := ok()
	for seq := range requests {
		one := row // the row is the proxy's own
		_, one.TraceID = r.Trace(seq+1, unasked)
		r.Sent(seq+1, 1)
		r.Ended(seq+1, row.DurationUs.V*1000, &one)
		tr.Settled(&one)
	}
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tr.Stats().Sent
}

// TestTracingAllocates bounds what a request costs in allocations: sampled, the making and encoding of its
// spans behind the data path included, unsampled, and without an endpoint.
func TestTracingAllocates(t *testing.T) {
	for _, c := range []struct {
		name  string
		ratio float64
		most  float64
	}{{"sampled", 1, 280}, {"unsampled", 0, 5.5}} {
		t.Run(c.name, func(t *testing.T) {
			const requests = 2000
			var sent uint64
			n := testing.AllocsPerRun(3, func() { sent = traced(t, c.ratio, requests) }) / requests
			if want := uint64(c.ratio * requests); sent != want {
				t.Errorf("%d of %d traces were made", sent, want)
			}
			t.Logf("%.1f allocations", n)
			if n > c.most {
				t.Errorf("%.1f allocations a request, more than %.0f", n, c.most)
			}
		})
	}
	var row meter.Record
	if n := testing.AllocsPerRun(200, func() { _, row.TraceID = PassthroughTracer{}.Trace(1, unasked) }); n > 0 {
		t.Errorf("without an endpoint: %v allocations a request", n)
	}
}
