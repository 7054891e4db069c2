package main

import (
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"wattline/gpu/host"
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

// watchResident begins to read it; nil for an upstream that is not on this machine, or has no port.
func watchResident(upstream string) *resident {
	u, err := url.Parse(upstream)
	if err != nil || !host.IsLocal(u.Hostname()) {
		return nil
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil
	}
	machine, err := host.New("/proc")
	if err != nil {
		return nil
	}
	r := &resident{quit: make(chan struct{}), ended: make(chan struct{})}
	go r.run(machine, port) // ends with stop, which waits
	return r
}

func (r *resident) run(machine *host.Host, port int) {
	defer close(r.ended)
	family := host.NewFamily(machine, port, residentWhose)
	tick := time.NewTicker(residentEvery)
	defer tick.Stop()
	for {
		pids, err := family.PIDs()
		if err != nil {
			pids = nil
		}
		r.bytes.Store(machine.Read(pids).ProcRSSB.V)
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
