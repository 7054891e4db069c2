package console

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// BenchmarkLive is one second of 100 requests, each a second long: ten ticks, their rows twice, told to ten pages and to none.
// ns/op / 1e9 is the part of a core that the pages cost, without the writing to their sockets.
func BenchmarkLive(b *testing.B) {
	for _, pages := range []int{0, 1, 10} {
		b.Run(fmt.Sprint(pages, " pages"), func(b *testing.B) { second(b, pages) })
	}
}

func second(b *testing.B, pages int) {
	now := time.Now()
	var inflight []LiveRequest
	l := NewLive()
	l.Follow(LiveConfig{
		Inflight:  func() []LiveRequest { return inflight },
		Devices:   func() []LiveDevice { return []LiveDevice{{Device: "GPU-0", IdleMw: meter.Some(60_000)}} },
		DevicesOf: func(string) []string { return []string{"GPU-0"} },
		Power: func(from, to time.Time) []Curve {
			c := Curve{Device: "GPU-0", From: from, StepUs: 20_000}
			for at := from; at.Before(to); at = at.Add(20 * time.Millisecond) {
				c.MilliWatts = append(c.MilliWatts, 260_000)
			}
			return []Curve{c}
		},
		Past: func(context.Context, time.Time) (*Past, error) { return &Past{}, nil }, Log: slog.New(slog.DiscardHandler),
	})
	observer := l.Observer(sink.NopObserver{})
	for range pages {
		p := l.enter()
		go func() { // ends with Stop
			for range p.chunks { //nolint:revive // it only takes them
			}
		}()
	}
	if pages > 0 {
		l.mu.Lock()
		close(l.quit) // the benchmark ticks
		l.quit = make(chan struct{})
		l.mu.Unlock()
	}
	some, n := meter.Some, 0
	row := func(id int, quality string, at time.Time) *meter.Record {
		return &meter.Record{
			ID: fmt.Sprintf("019a0000-0000-7000-8000-%012d", id), StartedAt: at.Add(-time.Second), Route: "default", Dialect: "chat", Stream: some(1), Outcome: meter.OK, EnergyQuality: quality,
			TTFTUs: some(200_000), UpstreamTTFTUs: some(199_000), QueueUs: some(1000), PrefillUs: some(198_000), DecodeUs: some(800_000), DurationUs: some(1_000_000),
			GPUUj: some(2_000_000), GPUActiveUj: some(1_500_000), GPUPrefillUj: some(500_000), GPUDecodeUj: some(1_000_000), GPUDevices: []string{"GPU-0"}, GPUUjByDevice: []int64{2_000_000},
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for range 10 {
			now = now.Add(liveStep)
			for range 10 {
				if n++; len(inflight) >= 100 {
					inflight = inflight[1:]
				}
				inflight = append(inflight, LiveRequest{
					ID: fmt.Sprintf("019a0000-0000-7000-8000-%012d", n), Route: "default", Agent: "codex", StartedAt: now, SentAt: now, HeadedAt: now, FirstAt: now, Streams: true, Computes: true, Events: int64(n),
				})
				observer.Offered(row(n-100, meter.EnergyPending, now))
				observer.Settled(row(n-300, meter.EnergyMeasured, now.Add(-2*time.Second)))
			}
			if pages > 0 {
				l.mu.Lock()
				l.tick(now)
				l.mu.Unlock()
			}
		}
	}
	b.StopTimer()
	l.mu.Lock()
	l.quit = make(chan struct{})
	l.mu.Unlock()
	l.Stop("")
}
