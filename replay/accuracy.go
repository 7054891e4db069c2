package replay

import (
	"math"
	"time"
)

// Expected are the latencies that a test upstream was configured with.
type Expected struct {
	FirstToken time.Duration
	Gap        time.Duration
}

// Accuracy is how far the client's measurements lie from the configured latencies, at one load.
type Accuracy struct {
	Load     string    `json:"load"`
	Requests int       `json:"requests"`
	Events   int       `json:"events"`
	TTFT     Deviation `json:"ttft_ms"`
	ITL      Deviation `json:"itl_ms"`
	Schedule Deviation `json:"schedule_ms"` // open loop only
	// CPU of the client on all cores while requests were in flight.
	CPUPercent Num `json:"cpu_percent"`
	CPUUsEvent Num `json:"cpu_us_per_event"`
}

// Deviation is measured minus expected time, in milliseconds; positive is late.
type Deviation struct {
	Median Num `json:"median"`
	P99    Num `json:"p99"` // of the absolute value; nearest rank, however few values there are
}

// AccuracyOf compares a run against the latencies of its upstream.
func AccuracyOf(load string, run *Run, want Expected) Accuracy {
	a := Accuracy{Load: load, Requests: len(run.Exchanges)}
	var ttft, itl, lag []float64
	for _, e := range run.answered() {
		a.Events += e.Events
		ttft = append(ttft, ttftMs(e).V-durationMs(want.FirstToken))
		for _, g := range gapsMs(e) {
			itl = append(itl, g-durationMs(want.Gap))
		}
		if e.LagUs.Valid {
			lag = append(lag, float64(e.LagUs.V)/1e3)
		}
	}
	a.TTFT, a.ITL, a.Schedule = deviation(ttft), deviation(itl), deviation(lag)
	cpu := run.clientCPU()
	a.CPUPercent = Ratio(cpu, run.measuredSeconds()).Times(100)
	a.CPUUsEvent = Ratio(cpu, Some(float64(a.Events))).Times(1e6)
	return a
}

func durationMs(d time.Duration) float64 { return float64(d) / 1e6 }

func deviation(v []float64) Deviation {
	if len(v) == 0 {
		return Deviation{}
	}
	sizes := make([]float64, len(v))
	for i, x := range v {
		sizes[i] = math.Abs(x)
	}
	return Deviation{Median(v), NearestRank(sizes, 0.99)}
}
