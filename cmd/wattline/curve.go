package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"wattline/gpu"
	"wattline/sink"
	"wattline/sink/console"
)

// How much of a device's native power samples is kept in memory, and which are fine enough to be shown
// as a curve.
const (
	curveKept    = 30 * time.Minute
	curveSamples = 200_000 // 3 MB
	curveStep    = 20 * time.Millisecond
	curveCoarse  = 150 * time.Millisecond // a source that updates or averages over more is no curve
	curveHole    = 300 * time.Millisecond
)

// curve is a device's power as its source gives it, the last while.
type curve struct {
	mu      sync.Mutex   // guards what follows
	samples []gpu.Sample // ascending; At with the source's lag removed
}

// add keeps a batch's samples. It runs on the device's goroutine.
func (c *curve) add(b *gpu.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fine := (b.Shape == gpu.ChannelRing || b.Shape == gpu.ChannelInstant) && max(b.StepNs, b.WindowNs) <= int64(curveCoarse)
	if b.Ended != "" || len(b.Samples) > 0 && !fine {
		c.samples = nil
		return
	}
	for _, s := range b.Samples {
		at := s.At - b.ShapeLagNs
		if n := len(c.samples); n > 0 && at <= c.samples[n-1].At {
			continue // the lag was learnt better meanwhile
		}
		c.samples = append(c.samples, gpu.Sample{At: at, Mw: s.Mw})
	}
	if n := len(c.samples); n > 2*curveSamples || n > 0 && c.samples[0].At < c.samples[n-1].At-2*int64(curveKept) {
		keep := max(n-curveSamples, n/2)
		c.samples = append([]gpu.Sample(nil), c.samples[keep:]...)
	}
}

// steps is the power on a grid of curveStep within [from, to), each step the sample nearest to its
// middle. There are none where the samples have a hole.
func (c *curve) steps(from, to int64) (begin int64, milliWatts []int64) {
	const step = int64(curveStep)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) == 0 {
		return 0, nil
	}
	first, last := c.samples[0].At, c.samples[len(c.samples)-1].At
	begin = max(from, first)
	if rest := begin % step; rest != 0 {
		begin += step - rest
	}
	i := 0
	for at := begin; at+step <= min(to, last); at += step {
		middle := at + step/2
		for i+1 < len(c.samples) && c.samples[i+1].At <= middle {
			i++
		}
		near := c.samples[i]
		if next := i + 1; next < len(c.samples) {
			if c.samples[next].At-near.At > int64(curveHole) {
				return 0, nil
			}
			if c.samples[next].At-middle < middle-near.At {
				near = c.samples[next]
			}
		}
		milliWatts = append(milliWatts, near.Mw)
	}
	return begin, milliWatts
}

// energy is what /api/energy answers.
func (s *service) energy(ctx context.Context, from, to time.Time) (*console.Energy, error) {
	e := &console.Energy{}
	for _, d := range s.power.devices {
		if d.sampler.Load() == nil || d.target.Info.Kind == gpu.KindCPU {
			continue
		}
		t := d.target
		e.Devices = append(e.Devices, console.EnergyDevice{
			Device: t.Info.UUID, Name: t.Info.Name, Driver: t.Info.Driver, Source: t.Info.Source, Simulated: t.Info.Simulated,
		})
		clock := s.power.clock
		if begin, mw := d.curve.steps(clock.At(from), clock.At(to)); len(mw) > 0 {
			e.Curves = append(e.Curves, console.Curve{Device: t.Info.UUID, From: clock.Time(begin).UTC(), StepUs: curveStep.Microseconds(), MilliWatts: mw})
		}
	}
	var err error
	if e.Power, err = s.rows.reader.Power(ctx, from, to); err != nil {
		return nil, err
	}
	if e.Ledger, err = s.rows.reader.Ledger(ctx, from, to); err != nil {
		return nil, err
	}
	// The processors are no devices here: what they draw is the whole machine's, and their ledgers are beside
	// the GPUs'.
	e.Power = slices.DeleteFunc(e.Power, func(p *sink.Power) bool { return p.Source == processorSource })
	e.Ledger = slices.DeleteFunc(e.Ledger, func(l *sink.Ledger) bool { return l.Source == processorSource })
	return e, nil
}

// processorSource is the source of the processors' rows.
const processorSource = "rapl"
