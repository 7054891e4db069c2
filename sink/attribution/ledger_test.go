package attribution

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/meter/energy"
)

// TestLedgerEvents: what a device's ledger could not attribute is counted for that device, and a limit that was reached is
// logged once.
func TestLedgerEvents(t *testing.T) {
	var log bytes.Buffer
	p := &Pipeline{}
	for _, name := range []string{"GPU-0", "GPU-1"} {
		p.devices = append(p.devices, &sampledDevice{target: gpu.Target{Info: gpu.Info{UUID: name}}})
	}
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now()
		p.settler = newSettler(settlerConfig{
			Rows: newKept(), Log: slog.New(slog.NewTextHandler(&log, nil)),
			Now: func() int64 { return int64(time.Since(epoch)) + 1 }, Wall: func(ns int64) time.Time { return epoch.Add(time.Duration(ns)) },
		}, "GPU-0", "GPU-1")
		for i, at := range []float64{10, 30} { // each request in a pass of its own
			for d := range 2 {
				r := &reading{Source: "test", At: sec(at - 10)}
				for k := range 1000 {
					r.Samples = append(r.Samples, sample{At: sec(at-10) + int64(k)*int64(20*time.Millisecond), MW: 100_000})
				}
				p.settler.add(d, r)
			}
			request(p.settler.ledgers(energy.MaxUpstreams+i, 0), uint64(i+1), "a", at, at+0.5, at+2)
			p.settler.ledgers(0, 1).Observe(energy.Event{Kind: energy.Decode, Request: 99, At: sec(at), Tokens: 1})
			time.Sleep(20 * time.Second)
		}
		if err := p.settler.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	first := map[string]int64{"dropped": 0, "unknown": 0, "late": 0, "unqueued_decode": 0, "forgotten_prefill": 0, "early_average_cell": 0, "upstream_over_limit": 2}
	if got := p.LedgerEvents("GPU-0"); !maps.Equal(got, first) {
		t.Errorf("GPU-0: %v", got)
	}
	if got := p.LedgerEvents("GPU-1"); got["unknown"] != 2 || got["upstream_over_limit"] != 0 {
		t.Errorf("GPU-1: %v", got)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "limited number of upstreams") || !strings.Contains(text, "device=GPU-0") {
		t.Errorf("log: %s", text)
	}
}

// TestDroppedEvents: an event that does not fit into the buffer is counted for its devices.
func TestDroppedEvents(t *testing.T) {
	s := &settler{devices: []*deviceLedger{{index: 0}, {index: 1}}, wake: make(chan struct{}, 1), wakeNow: make(chan struct{}, 1)}
	to := s.ledgers(0, 1)
	for range maxBuffer + 3 {
		to.Observe(energy.Event{Kind: energy.Decode})
	}
	if n, other := s.devices[1].dropped.Load(), s.devices[0].dropped.Load(); n != 3 || other != 0 || s.Dropped() != 3 {
		t.Errorf("%d events of the device, %d of another and %d of all were dropped", n, other, s.Dropped())
	}
}
