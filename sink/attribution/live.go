package attribution

import (
	"wattline/gpu"
	"wattline/meter"
	"wattline/proxy/llama"
)

// IdleMw is the loaded-idle draw that a device's ledger has learnt, at the last temperature; null before.
func (p *Pipeline) IdleMw(device string) meter.Int {
	for _, d := range p.settler.devices {
		if mw := d.idleMw.Load(); d.name == device && mw > 0 {
			return meter.Some(mw)
		}
	}
	return meter.Int{}
}

// RouteDevices names the GPUs that a route's requests compute on now.
func (p *Pipeline) RouteDevices(route int) []string {
	if set := p.routes[route].current.Load(); set != nil {
		return set.ledgers.names
	}
	return nil
}

// GPUStates tells what is known of the GPUs that are sampled.
func (p *Pipeline) GPUStates() (out []gpu.State) {
	for _, d := range p.devices {
		if d.target.Info.Kind != gpu.KindCPU && d.sampler.Load() != nil {
			out = append(out, d.state())
		}
	}
	return out
}

// busy reports whether requests are in flight.
func (o *RouteObserver) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.live) > 0
}

// Slot is the slot of a request in flight, by its proxy.Event's Seq, and the tokens of its prompt; null where not known, and
// then asked for.
func (o *RouteObserver) Slot(seq uint64) (slot, prompt meter.Int) {
	o.mu.Lock()
	q := o.live[seq]
	var tracked *llama.TrackedRequest
	if q != nil {
		slot, tracked = q.trace.slot, q.slot
	}
	o.mu.Unlock()
	if q == nil {
		return slot, prompt
	}
	if n := q.promptTokens.Load(); n > 0 {
		prompt = meter.Some(n)
	} else if tracked != nil {
		prompt = tracked.Prompt()
	}
	if tracked != nil && !(slot.Valid && prompt.Valid) {
		tracked.Look()
	}
	return slot, prompt
}
