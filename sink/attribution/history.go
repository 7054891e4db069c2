package attribution

import (
	"sync"
	"time"

	"wattline/gpu"
)

// How much of a device's native power samples is kept in memory, and which are fine enough to be shown as a curve.
const (
	historyKept    = 30 * time.Minute
	historySamples = 200_000 // 3 MB
	curveStep      = 20 * time.Millisecond
	maxCurveWindow = 150 * time.Millisecond // a source that updates less often or averages over more is too coarse
	maxCurveHole   = 300 * time.Millisecond
)

// powerHistory is a device's power as its source gives it, the last half hour.
type powerHistory struct {
	mu      sync.Mutex   // guards what follows
	samples []gpu.Sample // ascending; At with the source's lag removed
}

// add keeps a batch's samples. It runs on the device's goroutine.
func (h *powerHistory) add(b *gpu.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fine := (b.Profile == gpu.ChannelBuffer || b.Profile == gpu.ChannelInstant) && max(b.StepNs, b.WindowNs) <= int64(maxCurveWindow)
	if b.Ended != "" || len(b.Samples) > 0 && !fine {
		h.samples = nil
		return
	}
	for _, s := range b.Samples {
		at := s.At - b.ProfileLagNs
		if n := len(h.samples); n > 0 && at <= h.samples[n-1].At {
			continue // the lag has been learnt better since
		}
		h.samples = append(h.samples, gpu.Sample{At: at, Mw: s.Mw})
	}
	if n := len(h.samples); n > 2*historySamples || n > 0 && h.samples[0].At < h.samples[n-1].At-2*int64(historyKept) {
		keep := max(n-historySamples, n/2)
		h.samples = append([]gpu.Sample(nil), h.samples[keep:]...)
	}
}

// curve is the power on a grid of curveStep within [from, to), each step the sample nearest to its middle. It is empty
// where the samples have a hole.
func (h *powerHistory) curve(from, to int64) (begin int64, milliWatts []int64) {
	const step = int64(curveStep)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == 0 {
		return 0, nil
	}
	first, last := h.samples[0].At, h.samples[len(h.samples)-1].At
	begin = max(from, first)
	if rest := begin % step; rest != 0 {
		begin += step - rest
	}
	i := 0
	for at := begin; at+step <= min(to, last); at += step {
		middle := at + step/2
		for i+1 < len(h.samples) && h.samples[i+1].At <= middle {
			i++
		}
		near := h.samples[i]
		if next := i + 1; next < len(h.samples) {
			if h.samples[next].At-near.At > int64(maxCurveHole) {
				return 0, nil
			}
			if h.samples[next].At-middle < middle-near.At {
				near = h.samples[next]
			}
		}
		milliWatts = append(milliWatts, near.Mw)
	}
	return begin, milliWatts
}

// History is a sampled GPU with its power in steps between two moments. MilliWatts is empty where its source is too coarse
// or left a hole.
type History struct {
	Info       gpu.Info
	From       time.Time
	Step       time.Duration
	MilliWatts []int64
}

// History returns the power of every sampled GPU. The processors are left out: what they draw is the whole machine's.
func (p *Pipeline) History(from, to time.Time) (out []History) {
	for _, d := range p.devices {
		if d.sampler.Load() == nil || d.target.Info.Kind == gpu.KindCPU {
			continue
		}
		begin, mw := d.history.curve(p.cfg.Clock.At(from), p.cfg.Clock.At(to))
		out = append(out, History{Info: d.target.Info, From: p.cfg.Clock.Time(begin).UTC(), Step: curveStep, MilliWatts: mw})
	}
	return out
}
