package otlp

import (
	"context"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"wattline/meter"
	"wattline/meter/metertest"
)

// encoder is an Uploader that does everything but the network.
type encoder struct{ bytes int }

func (e *encoder) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) error {
	for _, rs := range batch {
		b, err := proto.Marshal(rs)
		if err != nil {
			return err
		}
		e.bytes += len(b)
	}
	return nil
}

// What tracing costs a request: ns/op is the time on the data path, cpu-ns/op the whole process's, with
// what the sender does behind it (making and encoding the spans). off is wattline without an endpoint.
func BenchmarkTracing(b *testing.B) {
	headers := func(name string) []byte {
		if name == "traceparent" {
			return []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		}
		return nil
	}
	none := func(string) []byte { return nil }
	for _, c := range []struct {
		name   string
		ratio  float64
		header func(string) []byte
	}{{"sampled", 1, none}, {"continued", 0, headers}, {"unsampled", 0, none}} {
		b.Run(c.name, func(b *testing.B) {
			out := &encoder{}
			tr, err := New(Config{Upload: out, Ratio: c.ratio, FlushInterval: time.Millisecond, Capacity: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			r := tr.Route("http")
			rec := ok()
			b.ReportAllocs()
			cpu := metertest.CPUTime()
			seq := uint64(0)
			for b.Loop() {
				seq++
				one := rec // the row is the proxy's own
				_, one.TraceID = r.Trace(seq, c.header)
				r.Sent(seq, 1)
				r.Ended(seq, rec.DurationUs.V*1000, &one)
				tr.Settled(&one)
			}
			b.StopTimer()
			if err := tr.Stop(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(metertest.CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
			if s := tr.Stats(); c.name != "unsampled" && s.Sent != uint64(b.N) {
				b.Errorf("%d of %d traces were made: %+v", s.Sent, b.N, s)
			}
			if out.bytes > 0 {
				b.ReportMetric(float64(out.bytes)/float64(b.N), "B-sent/op")
			}
		})
	}
	b.Run("off", func(b *testing.B) {
		rec := ok()
		b.ReportAllocs()
		cpu := metertest.CPUTime()
		for b.Loop() {
			one := new(meter.Record)
			*one = rec
			_, one.TraceID = PassthroughTracer{}.Trace(1, none)
		}
		b.ReportMetric(float64(metertest.CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
	})
}
