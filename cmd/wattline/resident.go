package main

import (
	"sync/atomic"
	"time"

	"wattline/gpu/discover"
	"wattline/meter"
)

// How often the memory of an upstream's processes is read, and how often it is looked up which they are.
const (
	residentEvery = 2 * time.Second
	residentWhose = 30 * time.Second
)

// resident is the memory that a local upstream's processes hold.
type resident struct {
	bytes atomic.Int64 // 0: not known
	quit  chan struct{}
	ended chan struct{}
}

// watchResident begins to read it; nil where the upstream's processes cannot be known.
func watchResident(whose *discover.ProcessTree, machine *discover.Host) *resident {
	if whose == nil {
		return nil
	}
	r := &resident{quit: make(chan struct{}), ended: make(chan struct{})}
	go r.run(whose, machine) // ends with stop, which waits
	return r
}

func (r *resident) run(whose *discover.ProcessTree, machine *discover.Host) {
	defer close(r.ended)
	tick := time.NewTicker(residentEvery)
	defer tick.Stop()
	for {
		if pids, err := whose.PIDs(); err != nil {
			r.bytes.Store(0)
		} else {
			r.bytes.Store(machine.Resident(pids).V)
		}
		select {
		case <-r.quit:
			return
		case <-tick.C:
		}
	}
}

// now is the newest reading.
func (r *resident) now() meter.Int {
	if r == nil {
		return meter.Int{}
	}
	v := r.bytes.Load()
	return meter.Int{V: v, Valid: v > 0}
}

func (r *resident) stop() {
	if r != nil {
		close(r.quit)
		<-r.ended
	}
}
