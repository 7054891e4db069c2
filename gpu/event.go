package gpu

import "wattline/meter"

// Event is one request's change of phase.
type Event struct {
	At      int64  // ns on the sampler's Clock
	Request uint64 // any number that tells requests apart while they are in flight
	Phase   meter.Phase
	Slot    int // the server's slot, -1 where unknown
	Tokens  int // with PhasePrefill: prompt tokens to process, 0 where unknown; with PhaseDecode: context length
}

// Activity observes what is in flight. The Sampler implements it: it polls faster while something is,
// and learns lags from it. So does the simulated device: its power follows from it. Observe
// never blocks for I/O and may be called from any goroutine; one request's events come in order.
type Activity interface {
	Observe(Event)
}

// Activities passes events to several.
type Activities []Activity

// Observe implements Activity.
func (a Activities) Observe(e Event) {
	for _, x := range a {
		x.Observe(e)
	}
}
