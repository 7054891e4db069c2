package attribution

import (
	"fmt"
	"testing"
)

// BenchmarkGrowth is how a request's cost in the settler and the ledgers grows with the devices that work for it.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("devices=%d", n), func(b *testing.B) {
			f := newTraffic(n)
			defer f.s.Stop(b.Context()) //nolint:errcheck // nothing was kept
			for range 20 {
				f.round()
			}
			b.ReportAllocs()
			b.ResetTimer()
			rounds := 0
			for b.Loop() {
				f.round()
				rounds++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(500*rounds), "ns/request")
			f.now += sec(60)
			f.s.process(f.now)
		})
	}
}
