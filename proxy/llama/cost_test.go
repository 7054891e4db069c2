package llama

import (
	"testing"
	"time"

	"wattline/gpu/discover"
	"wattline/proxy"
	"wattline/proxy/llamatest"
)

// BenchmarkPoll: what one poll costs a real llama-server with four slots, in CPU time of its own.
func BenchmarkPoll(b *testing.B) {
	srv := llamatest.Start(b)
	up, err := proxy.ParseUpstream(srv.URL())
	if err != nil {
		b.Fatal(err)
	}
	machine, err := discover.New("/proc")
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	r := NewSlotTracker(SlotTrackerConfig{Client: NewClient(up), Now: func() int64 { return int64(time.Since(begin)) + 1 }, Observe: func(SlotObservation) {}})
	defer r.Stop()
	before, _, _ := machine.CPUTime([]int{srv.PID()})
	n := 0
	for b.Loop() {
		if err := r.poll(b.Context()); err != nil {
			b.Fatal(err)
		}
		n++
	}
	after, _, _ := machine.CPUTime([]int{srv.PID()})
	b.ReportMetric(1e6*(after-before)/float64(n), "server-us/poll")
}
