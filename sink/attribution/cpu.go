package attribution

import (
	"time"

	"wattline/gpu"
	"wattline/meter/energy"
)

// cpuShare divides the machine's CPU energy between a route's upstream and the rest of the machine, by CPU time. Only the
// goroutine of the processors' sampler uses it.
type cpuShare struct {
	ledger    int // index among the settler's
	processes Processes
	cpuTime   func(pids []int) (theirs, all float64, ok bool)

	split       energy.CPUSplit
	epoch       int   // of the sampler
	lastUJ      int64 // the energy counter
	at          int64
	theirs, all float64 // CPU seconds so far
}

// cpuTimeEvery is how often CPU time is read: the kernel counts it in hundredths of a second.
const cpuTimeEvery = int64(100 * time.Millisecond)

// divideCPU gives each route's upstream its part of the CPU energy.
func (p *Pipeline) divideCPU(b *gpu.Batch) {
	for _, t := range b.Ticks {
		for _, r := range p.routes {
			if c := r.share; c != nil && (t.After-c.at >= cpuTimeEvery || b.Ended != "") {
				p.settler.add(c.ledger, c.divide(b, t))
			}
		}
	}
}

// divide takes one reading of the counter and returns the upstream's part of it, as a counter of its own.
func (c *cpuShare) divide(b *gpu.Batch, t gpu.Tick) *reading {
	pids, _ := c.processes.PIDs() // none while nothing listens there: everything is the machine's then
	theirs, all, ok := c.cpuTime(pids)
	if b.Epoch != c.epoch { // what was drawn in between is not known, and a counter that begins anew says so
		c.split, c.at, c.epoch = energy.CPUSplit{}, 0, b.Epoch
	}
	if c.at > 0 && ok && t.Uj >= c.lastUJ {
		c.split.Add(t.Uj-c.lastUJ, theirs-c.theirs, all-c.all)
	}
	c.lastUJ, c.at, c.theirs, c.all = t.Uj, t.After, theirs, all
	return &reading{
		Source: b.Info.Source, Shape: energy.ShapeCounter, At: b.At, Lost: b.Ended != "",
		Ticks: []tick{{Before: t.Before, After: t.After, Lo: t.Lo, Hi: t.Hi, UJ: c.split.Server}},
	}
}
