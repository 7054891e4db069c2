package otlp

import (
	"testing"
	"time"

	"wattline/meter"
)

// optional reads a column from fuzzed bytes: any value, or null.
func optional(v int64, present bool) meter.Int { return meter.Int{V: v, Valid: present} }

// Whatever a row holds, also numbers that contradict each other because the server's clock and ours do,
// children lie within their parents and nothing ends before it starts.
func FuzzChildrenLieWithinTheirParents(f *testing.F) {
	f.Add(int64(200), int64(5000), int64(40000), int64(1000000), int64(45000), int64(45300), int64(1045400), uint8(255))
	f.Add(int64(-5), int64(1<<40), int64(-1), int64(7), int64(1<<50), int64(0), int64(100), uint8(255))
	f.Add(int64(0), int64(0), int64(0), int64(0), int64(0), int64(0), int64(0), uint8(255))
	f.Add(int64(10), int64(0), int64(0), int64(0), int64(90), int64(95), int64(100), uint8(255))
	f.Add(int64(0), int64(0), int64(9_000_000), int64(9_000_000), int64(0), int64(0), int64(1000), uint8(0b1110110))
	f.Fuzz(func(t *testing.T, p1, queue, prefill, decode, upstreamTTFT, ttft, duration int64, present uint8) {
		const bound = 1 << 52 // 142 years in microseconds: sums cannot overflow
		for _, v := range []*int64{&p1, &queue, &prefill, &decode, &upstreamTTFT, &ttft, &duration} {
			*v %= bound
		}
		has := func(bit int) bool { return present&(1<<bit) != 0 }
		rec := ok()
		rec.QueueUs, rec.PrefillUs, rec.DecodeUs = optional(queue, has(0)), optional(prefill, has(1)), optional(decode, has(2))
		rec.UpstreamTTFTUs, rec.TTFTUs = optional(upstreamTTFT, has(3)), optional(ttft, has(4))
		rec.DurationUs = optional(max(duration, 0), has(5))
		if !rec.DurationUs.Valid {
			rec.DurationUs.V = 0 // null
		}
		if !has(6) {
			rec.Stream = some(0)
		}
		spans := buildSpans(&traceState{trace: newTraceID(), server: newSpanID(), client: newSpanID(), flags: 1, p1Us: optional(p1, has(7))}, &rec)
		byID := map[string][2]uint64{}
		for _, s := range spans {
			byID[string(s.GetSpanId())] = [2]uint64{s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano()}
		}
		for _, s := range spans {
			from, to := int64(s.GetStartTimeUnixNano()), int64(s.GetEndTimeUnixNano())
			if to <= from {
				t.Errorf("%s ends %v before it starts, or when it does", s.GetName(), time.Duration(from-to))
			}
			if parent, ok := byID[string(s.GetParentSpanId())]; ok && (from < int64(parent[0]) || to > int64(parent[1])) {
				t.Errorf("%s %d..%d leaves its parent %d..%d", s.GetName(), from, to, parent[0], parent[1])
			}
			for _, e := range s.GetEvents() {
				if at := int64(e.GetTimeUnixNano()); at < from || at > to {
					t.Errorf("%s of %s lies outside it", e.GetName(), s.GetName())
				}
			}
		}
	})
}

// A load lies before the queue, in either direction.
func TestLoadComesBeforeTheQueue(t *testing.T) {
	rec := &meter.Record{
		Outcome: meter.OK, Stream: meter.Some(1), DurationUs: meter.Some(1000), LoadUs: meter.Some(400), QueueUs: meter.Some(100), UpstreamTTFTUs: meter.Some(700),
		PrefillUs: meter.Some(200), DecodeUs: meter.Some(200),
	}
	at := layoutOf(rec, meter.Some(50))
	if !at.hasLoad || at.load != (interval{50, 450}) || at.queue != (interval{450, 550}) {
		t.Errorf("streamed: load %v, queue %v", at.load, at.queue)
	}
	rec.Stream = meter.Some(0)
	at = layoutOf(rec, meter.Some(50))
	if !at.hasLoad || at.load != (interval{100, 500}) || at.queue != (interval{500, 600}) {
		t.Errorf("not streamed: load %v, queue %v", at.load, at.queue)
	}
	names := ""
	for _, s := range buildSpans(&traceState{trace: newTraceID(), server: newSpanID(), client: newSpanID(), p1Us: meter.Some(50)}, rec)[2:] {
		names += s.GetName() + " "
	}
	if names != "load queue prefill decode " {
		t.Errorf("spans %s", names)
	}
}

// A phase that the server reports as longer than the exchange is cut to the exchange.
func TestChildrenStayInTheirParent(t *testing.T) {
	rec := &meter.Record{
		Outcome: meter.OK, Stream: meter.Some(1), DurationUs: meter.Some(1000), QueueUs: meter.Some(100), UpstreamTTFTUs: meter.Some(900),
		PrefillUs: meter.Some(5000), DecodeUs: meter.Some(700),
	}
	at := layoutOf(rec, meter.Some(50))
	if want := (interval{150, 1000}); at.prefill != want {
		t.Errorf("prefill lies at %v, not %v", at.prefill, want)
	}
	if want := (interval{950, 1000}); at.decode != want {
		t.Errorf("decode lies at %v, not %v", at.decode, want)
	}
}
