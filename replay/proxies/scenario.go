package proxies

import (
	"fmt"
	"slices"
	"time"
)

// Scenario is one kind of traffic, a section of the report.
type Scenario struct {
	Key     string        `json:"key"`
	Title   string        `json:"title"`
	Streams int           `json:"streams"` // or connections, of short requests
	Gap     time.Duration `json:"gap_ns"`  // between a stream's events
	Ramp    time.Duration `json:"ramp_ns"` // over which the connections are opened
	Settle  time.Duration `json:"settle_ns"`
	Window  time.Duration `json:"window_ns"` // what is measured
	Short   bool          `json:"short"`     // unstreamed requests, one after the other on each connection
	Idle    bool          `json:"idle"`      // streams that say nothing within the window: their memory is the result
	Quick   int           `json:"quick"`     // events of a stream before it falls idle
}

// Scenarios are the five loads. window is how long each is measured; scale, 1 for the real thing,
// shrinks the crowds for a test.
func Scenarios(window time.Duration, scale float64) []Scenario {
	n := func(v int) int { return max(1, int(float64(v)*scale)) }
	part := func(d time.Duration) time.Duration { return time.Duration(float64(d) * min(1, max(scale, 0.1))) }
	settle := part(200 * time.Millisecond)
	return []Scenario{
		{Key: "one", Title: "1 stream x 100 events/s", Streams: 1, Gap: 10 * time.Millisecond, Ramp: time.Millisecond, Settle: settle, Window: window},
		{Key: "hundred", Title: "100 streams x 50 events/s", Streams: n(100), Gap: 20 * time.Millisecond, Ramp: part(300 * time.Millisecond), Settle: settle, Window: window},
		{Key: "thousand", Title: "1,000 streams x 10 events/s", Streams: n(1000), Gap: 100 * time.Millisecond, Ramp: part(800 * time.Millisecond), Settle: settle, Window: window},
		{Key: "idle", Title: "2,000 idle streams", Streams: n(2000), Gap: part(2800 * time.Millisecond), Ramp: part(1200 * time.Millisecond), Settle: part(700 * time.Millisecond), Window: part(500 * time.Millisecond), Idle: true, Quick: 5},
		{Key: "short", Title: "short unstreamed requests on 32 connections", Streams: n(32), Ramp: part(50 * time.Millisecond), Settle: part(150 * time.Millisecond), Window: window, Short: true},
	}
}

// Choose keeps the scenarios with these keys.
func Choose(all []Scenario, keys []string) ([]Scenario, error) {
	var out []Scenario
	for _, k := range keys {
		i := slices.IndexFunc(all, func(s Scenario) bool { return s.Key == k })
		if i < 0 {
			return nil, fmt.Errorf("there is no load %q", k)
		}
		out = append(out, all[i])
	}
	return out, nil
}
