// Package selftest says how exact the client is: what it measures at an upstream whose every latency is
// known beforehand, against what that upstream was told.
package selftest

import (
	"math"
	"time"

	"wattline/replay"
)

// Told is what the upstream was told to do.
type Told struct {
	FirstToken time.Duration
	Gap        time.Duration
}

// Floor is the client's own error at one load.
type Floor struct {
	Load     string    `json:"load"`
	Requests int       `json:"requests"`
	Events   int       `json:"events"`
	TTFT     Deviation `json:"ttft_ms"`
	ITL      Deviation `json:"itl_ms"`
	Schedule Deviation `json:"schedule_ms"` // open loop only
	// CPU of the client, all cores, while requests were in flight.
	CPUPercent replay.Num `json:"cpu_percent"`
	CPUUsEvent replay.Num `json:"cpu_us_per_event"`
}

// Deviation is how far measured times lie from told ones, in milliseconds; a positive one is late.
type Deviation struct {
	Median replay.Num `json:"median"`
	P99    replay.Num `json:"p99"` // of the size, the sign aside; nearest rank, of however many
}

// FloorOf compares a run with what was told.
func FloorOf(load string, run *replay.Run, told Told) Floor {
	f := Floor{Load: load, Requests: len(run.Exchanges)}
	var ttft, itl, lag []float64
	for _, e := range run.Exchanges {
		if !e.OK() {
			continue
		}
		f.Events += e.Events
		ttft = append(ttft, float64(e.TTFTUs.V)/1e3-ms(told.FirstToken))
		for _, g := range e.GapsUs {
			itl = append(itl, float64(g)/1e3-ms(told.Gap))
		}
		if e.LagUs.Valid {
			lag = append(lag, float64(e.LagUs.V)/1e3)
		}
	}
	f.TTFT, f.ITL, f.Schedule = deviation(ttft), deviation(itl), deviation(lag)
	cpu, wall := replay.Num{}, 0.0
	for _, s := range run.Spans {
		wall += s.To.Sub(s.From).Seconds()
		if s.CPUSeconds.Valid {
			cpu = replay.Some(cpu.V + s.CPUSeconds.V)
		}
	}
	f.CPUPercent = replay.Ratio(cpu, replay.Some(wall)).Times(100)
	f.CPUUsEvent = replay.Ratio(cpu, replay.Some(float64(f.Events))).Times(1e6)
	return f
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func deviation(v []float64) Deviation {
	if len(v) == 0 {
		return Deviation{}
	}
	sizes := make([]float64, len(v))
	for i, x := range v {
		sizes[i] = math.Abs(x)
	}
	return Deviation{replay.Median(v), replay.Nearest(sizes, 0.99)}
}
