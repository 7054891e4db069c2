package console

import (
	"slices"
	"time"

	"wattline/meter"
)

// Steps of the live power are on a grid of absolute times.
const (
	liveStep   = 100 * time.Millisecond
	liveWindow = 3 * time.Minute // how much of the past a page gets
	maxPieces  = 100             // steps of one power event
)

// interval is a phase in which a request computes, in Unix nanoseconds; to is the present while it goes on.
type interval struct{ from, to int64 }

// overlap is how much of step b lies in the interval, in ns.
func (i interval) overlap(b int64) int64 {
	return max(0, min(i.to, (b+1)*int64(liveStep))-max(i.from, b*int64(liveStep)))
}

// liveShare is a request's claim on the power of devices.
type liveShare struct {
	id      string
	phases  [2]interval          // prefill and decode
	sent    int64                // when a request in flight was sent; 0: its row came
	devices map[string]*onDevice // by device
	done    bool                 // its row came: the phases stand
	goesOn  bool                 // its client left, and the server worked on for it
	final   bool                 // its joules will not change
}

// onDevice is a final request's energy on a device.
type onDevice struct {
	uj      [2]float64 // of the phases; active joules
	ready   bool       // draw is computed
	first   int64      // the step of draw[0]
	draw    []float64  // mW by step
	nothing bool       // no joules were obtained: it gets what the others leave
}

// end is when its last phase ends.
func (r *liveShare) end() int64 { return max(r.phases[0].to, r.phases[1].to) }

// begin is when its first phase began, or can have begun.
func (r *liveShare) begin() int64 {
	if r.sent > 0 {
		return r.sent
	}
	if r.phases[0].from > 0 {
		return r.phases[0].from
	}
	return r.phases[1].from
}

func (r *liveShare) in(b int64) bool { return r.phases[0].overlap(b)+r.phases[1].overlap(b) > 0 }

// deviceBins is a device's power by step.
type deviceBins struct {
	base    int64       // the first step
	mw      []meter.Int // null: not told
	idles   []int64     // loaded-idle draw that was known then, mW
	given   []float64   // of the active power, mW that settled requests have
	sent    int         // of mw, those that were sent
	settled int         // of mw, those that were sent as settled, or never will be
	idle    int64       // mW: loaded-idle draw; 0: not known yet
	weight  [2]float64  // mW that a request drew in each phase lately, for the provisional division
}

// division divides the devices' power among requests. Its owner serialises the calls.
type division struct {
	devices map[string]*deviceBins
	shares  []*liveShare // by begin, more or less
}

func (d *division) device(name string) *deviceBins {
	if d.devices == nil {
		d.devices = map[string]*deviceBins{}
	}
	v := d.devices[name]
	if v == nil {
		v = &deviceBins{weight: [2]float64{1, 1}}
		d.devices[name] = v
	}
	return v
}

// add notes the power of step b. Steps come in order; one that is there already stays.
func (v *deviceBins) add(b int64, mw meter.Int) {
	if len(v.mw) == 0 {
		v.base = b
	}
	if b < v.next() {
		return
	}
	for v.next() < b {
		v.mw, v.idles, v.given = append(v.mw, meter.Int{}), append(v.idles, 0), append(v.given, 0)
		if len(v.mw) > int(2*liveWindow/liveStep) {
			v.trim(b)
		}
	}
	v.mw, v.idles, v.given = append(v.mw, mw), append(v.idles, v.idle), append(v.given, 0)
}

// next is the step behind the last.
func (v *deviceBins) next() int64 { return v.base + int64(len(v.mw)) }

// trim forgets steps before the window that ends at step b.
func (v *deviceBins) trim(b int64) {
	n := int(min(int64(len(v.mw)), b-int64(liveWindow/liveStep)-v.base))
	if n <= 0 {
		return
	}
	v.mw, v.idles, v.given = slices.Clone(v.mw[n:]), slices.Clone(v.idles[n:]), slices.Clone(v.given[n:])
	v.base, v.sent, v.settled = v.base+int64(n), max(0, v.sent-n), max(0, v.settled-n)
}

// active is the power above idle.
func (v *deviceBins) active(i int) int64 { return max(0, v.mw[i].V-v.idleOf(i)) }

// free is the active power that no settled request has.
func (v *deviceBins) free(i int) float64 { return max(0, float64(v.active(i))-v.given[i]) }

// steps calls f with each step that the device told of an interval, and how much of it lies in the interval, in ns.
func (v *deviceBins) steps(in interval, f func(i int, ns float64)) {
	for b := max(v.base, in.from/int64(liveStep)); b < v.next() && b*int64(liveStep) < in.to; b++ {
		if i := int(b - v.base); v.mw[i].Valid {
			f(i, float64(in.overlap(b)))
		}
	}
}

// idleOf is the idle draw in step i: what was known then, else what has been learnt since.
func (v *deviceBins) idleOf(i int) int64 {
	idle := v.idles[i]
	if idle == 0 {
		idle = v.idle
	}
	return min(v.mw[i].V, idle)
}

// share finds or makes a request's claim.
func (d *division) share(id string) *liveShare {
	for i := len(d.shares) - 1; i >= 0; i-- {
		if d.shares[i].id == id {
			return d.shares[i]
		}
	}
	r := &liveShare{id: id, devices: map[string]*onDevice{}}
	d.shares = append(d.shares, r)
	return r
}

// trim forgets what is older than the window.
func (d *division) trim(now int64) {
	for _, v := range d.devices {
		if len(v.mw) > int(3*liveWindow/liveStep/2) {
			v.trim(now / int64(liveStep))
		}
	}
	// A request in flight ends now: one whose row never came is forgotten too.
	d.shares = slices.DeleteFunc(d.shares, func(r *liveShare) bool { return r.end() < now-int64(liveWindow+time.Minute) })
}

// follow takes a request in flight. It may have computed since it was sent: a head can come late.
func (d *division) follow(r *LiveRequest, now time.Time, devices func(route string) []string) {
	if !r.Computes || r.SentAt.IsZero() {
		return
	}
	share := d.share(r.ID)
	if share.done { // its row knows better
		return
	}
	share.sent = r.SentAt.UnixNano()
	if phases, ok := r.computing(now); ok {
		share.phases = phases
	} else {
		share.phases[0] = interval{now.UnixNano(), now.UnixNano()} // empty; it is not forgotten
	}
	for _, name := range devices(r.Route) {
		if share.devices[name] == nil {
			share.devices[name] = &onDevice{}
		}
	}
}

// finish takes a finished row: its phases stand, and where its joules are final their place in time is known. A row that
// was final comes again where the stored past and the observer both have it.
func (d *division) finish(rec *meter.Record, devices []string) {
	r := d.share(rec.ID)
	if r.final {
		return
	}
	r.done, r.sent, r.phases, r.goesOn = true, 0, phasesOf(rec), rec.Details != nil && rec.Details.Abandoned.V == 1
	r.final = rec.EnergyQuality != meter.EnergyPending
	if len(rec.GPUDevices) > 0 {
		devices = rec.GPUDevices
	}
	for _, name := range devices {
		if r.devices[name] == nil {
			r.devices[name] = &onDevice{}
		}
	}
	if !r.final {
		return
	}
	placed := rec.PrefillUs.Valid || rec.DecodeUs.Valid
	for name, on := range r.devices {
		if on.settle(rec, name); on.nothing && !placed { // nothing says that it computed
			delete(r.devices, name)
			continue
		}
		v := d.device(name)
		for p, us := range []int64{rec.PrefillUs.V, rec.DecodeUs.V} {
			if us > 0 && on.uj[p] > 0 && !on.nothing {
				v.weight[p] += (on.uj[p]/float64(us)*1e3 - v.weight[p]) / 4
			}
		}
	}
}

// settle sets a row's active joules on one device.
func (on *onDevice) settle(rec *meter.Record, name string) {
	part := 1.0
	if i := slices.Index(rec.GPUDevices, name); i >= 0 && i < len(rec.GPUUjByDevice) && rec.GPUUj.V > 0 {
		part = float64(rec.GPUUjByDevice[i]) / float64(rec.GPUUj.V)
	} else if i < 0 {
		part = 0
	}
	*on = onDevice{nothing: true}
	switch {
	case rec.GPUPrefillUj.Valid && rec.GPUDecodeUj.Valid:
		on.uj, on.nothing = [2]float64{part * float64(rec.GPUPrefillUj.V), part * float64(rec.GPUDecodeUj.V)}, false
	case rec.GPUActiveUj.Valid:
		on.uj, on.nothing = [2]float64{0, part * float64(rec.GPUActiveUj.V)}, false
	}
}

// phasesOf are the phases in which a row's request computed. Where their places are not known or both are empty, it is its
// whole time.
func phasesOf(rec *meter.Record) (out [2]interval) {
	p0 := rec.StartedAt.UnixNano()
	for _, sp := range rec.Spans() {
		if i := slices.Index([]string{"prefill", "decode"}, sp.Name); i >= 0 && sp.From.Valid {
			out[i] = interval{p0 + sp.From.V*1000, p0 + sp.To().V*1000}
		}
	}
	if out[0].to <= out[0].from && out[1].to <= out[1].from {
		length := rec.DurationUs.V * 1000
		if length <= 0 {
			length = int64(liveStep)
		}
		out = [2]interval{1: {p0, p0 + length}}
	}
	return out
}

// powerPiece is a power event.
type powerPiece struct {
	Device     string             `json:"device"`
	From       time.Time          `json:"from"`
	StepUs     int64              `json:"step_us"`
	Settled    bool               `json:"settled"`
	MilliWatts []int64            `json:"mw"`
	Idle       []int64            `json:"idle_mw"`
	Residual   []int64            `json:"residual_mw"`
	Requests   map[string][]int64 `json:"requests"`
	near       []*liveShare       // those that can have a part in its steps
}

// pieces are the steps that a page has not seen: new ones, provisional, and those that have become settled. all: every step.
func (d *division) pieces(all bool) (out []*powerPiece) {
	for name, v := range d.devices {
		settled := d.settledUpTo(name, v)
		if all {
			out = d.cut(out, name, v, 0, settled, true)
			out = d.cut(out, name, v, settled, len(v.mw), false)
		} else {
			out = d.cut(out, name, v, v.settled, settled, true)
			out = d.cut(out, name, v, max(v.sent, settled), len(v.mw), false)
		}
		if !all {
			v.settled, v.sent = settled, len(v.mw)
		}
	}
	slices.SortStableFunc(out, func(a, b *powerPiece) int { return a.From.Compare(b.From) })
	return out
}

// settledUpTo is the first step that is not settled: a request in it has no final joules yet.
func (d *division) settledUpTo(name string, v *deviceBins) int {
	var open []*liveShare
	for _, r := range d.shares {
		on := r.devices[name]
		if on == nil {
			continue
		}
		if !r.final || r.end() > v.next()*int64(liveStep) {
			open = append(open, r)
			continue
		}
		on.prepare(r, v)
	}
	i := v.settled
	for ; i < len(v.mw); i++ {
		b := v.base + int64(i)
		if slices.ContainsFunc(open, func(r *liveShare) bool { return r.begin() > 0 && r.begin() < (b+1)*int64(liveStep) }) {
			break
		}
	}
	// A row may come a moment after its last step.
	return max(v.settled, min(i, len(v.mw)-int(2*time.Second/liveStep)))
}

// prepare computes where in time a final request's joules lie: in its phases, in proportion to the power that no other has
// there. What its prefill cannot have drawn lies in its decode. A part of a phase that has no steps here keeps its part of
// the joules.
func (on *onDevice) prepare(r *liveShare, v *deviceBins) {
	if on.ready || on.nothing {
		return
	}
	on.ready = true
	uj := on.uj
	for p := range uj { // the joules of a phase whose place is not known lie in the other
		if r.phases[p].to <= r.phases[p].from {
			uj[1-p], uj[p] = uj[1-p]+uj[p], 0
		}
	}
	if whole := r.phases[0].from/int64(liveStep) >= v.base; whole && r.phases[1].to > r.phases[1].from {
		room := 0.0
		v.steps(r.phases[0], func(i int, ns float64) { room += ns * v.free(i) * 1e-6 }) // mW x ns = 1e-6 uJ
		if room < uj[0] {
			uj[0], uj[1] = room, uj[1]+uj[0]-room
		}
	}
	over := r.stretch(v, &uj)
	on.first = max(v.base, r.begin()/int64(liveStep))
	on.draw = make([]float64, max(0, min(v.next(), r.end()/int64(liveStep)+1)-on.first))
	length := float64(max(0, r.phases[0].to-r.phases[0].from) + max(0, r.phases[1].to-r.phases[1].from))
	for p, phase := range r.phases {
		even := over / 1e3 / liveStep.Seconds() / max(1, length)
		v.steps(phase, func(i int, ns float64) {
			if k := v.base + int64(i) - on.first; k >= 0 && k < int64(len(on.draw)) {
				on.draw[k] += even * ns
			}
		})
		sum, covered := 0.0, 0.0
		v.steps(phase, func(i int, ns float64) { sum, covered = sum+ns*(v.free(i)+1), covered+ns })
		if sum == 0 {
			continue
		}
		mw := uj[p] / 1e3 / liveStep.Seconds() * covered / float64(phase.to-phase.from)
		v.steps(phase, func(i int, ns float64) {
			if k := v.base + int64(i) - on.first; k >= 0 && k < int64(len(on.draw)) {
				on.draw[k] += mw * ns * (v.free(i) + 1) / sum
			}
		})
	}
	for k, mw := range on.draw {
		v.given[on.first+int64(k)-v.base] += mw
	}
}

// at is what a settled request draws in step b.
func (on *onDevice) at(b int64) float64 {
	if k := b - on.first; k >= 0 && k < int64(len(on.draw)) {
		return on.draw[k]
	}
	return 0
}

// maxTail is how far power may come behind the work that drew it.
const maxTail = 500 * time.Millisecond

// stretch lets the last phase end later where so much was not free in it: power falls off behind the end of the work, and a
// server works on for a client that has left. It returns the microjoules for which there is no room all the same, which are
// taken from uj and lie evenly over the phases.
func (r *liveShare) stretch(v *deviceBins, uj *[2]float64) (over float64) {
	p := 0
	if r.phases[1].to > r.phases[1].from {
		p = 1
	}
	phase, room := &r.phases[p], 0.0
	if phase.from/int64(liveStep) < v.base {
		return 0 // what it drew before is not known here
	}
	end := phase.to + int64(maxTail)
	v.steps(*phase, func(i int, ns float64) { room += ns * v.free(i) * 1e-6 })
	for b := phase.to/int64(liveStep) + 1; b < v.next() && room < uj[p] && (b*int64(liveStep) < end || r.goesOn); b++ {
		i := int(b - v.base)
		if i < 0 || !v.mw[i].Valid {
			break
		}
		phase.to = (b + 1) * int64(liveStep)
		room += v.free(i) * float64(liveStep) * 1e-6
	}
	over = max(0, uj[p]-room)
	uj[p] -= over
	return over
}

// cut appends the events of steps [from, to), which leave out what the device did not tell.
func (d *division) cut(out []*powerPiece, name string, v *deviceBins, from, to int, settled bool) []*powerPiece {
	var p *powerPiece
	for i := from; i < to; i++ {
		if !v.mw[i].Valid {
			p = nil
			continue
		}
		b := v.base + int64(i)
		if p == nil || len(p.MilliWatts) == maxPieces {
			p = &powerPiece{Device: name, From: time.Unix(0, b*int64(liveStep)).UTC(), StepUs: liveStep.Microseconds(), Settled: settled, Requests: map[string][]int64{}}
			p.near = d.near(name, b, min(b+maxPieces, v.base+int64(to)))
			out = append(out, p)
		}
		p.step(name, v, i, b)
	}
	return out
}

// near are the shares with a phase in steps [from, to) of a device.
func (d *division) near(name string, from, to int64) (out []*liveShare) {
	begin, end := from*int64(liveStep), to*int64(liveStep)
	for _, r := range d.shares {
		if r.devices[name] == nil {
			continue
		}
		if slices.ContainsFunc(r.phases[:], func(i interval) bool { return i.from < end && i.to > begin }) {
			out = append(out, r)
		}
	}
	return out
}

// step appends one step, divided.
func (p *powerPiece) step(name string, v *deviceBins, i int, b int64) {
	idle := v.idleOf(i)
	rest := v.mw[i].V - idle
	n := len(p.MilliWatts)
	give := func(id string, mw int64) {
		if mw == 0 {
			return
		}
		list := p.Requests[id]
		for len(list) < n {
			list = append(list, 0)
		}
		p.Requests[id] = append(list, mw)
		rest -= mw
	}
	total := 0.0 // of those that have no joules of their own
	for _, r := range p.near {
		on := r.devices[name]
		if !r.in(b) {
			continue
		}
		if !p.Settled || on.nothing {
			total += r.weightIn(v, b)
			continue
		}
		give(r.id, int64(on.at(b)+0.5))
	}
	left := max(0, rest)
	for _, r := range p.near {
		if total > 0 && r.in(b) && (!p.Settled || r.devices[name].nothing) {
			give(r.id, int64(float64(left)*r.weightIn(v, b)/total))
		}
	}
	p.MilliWatts, p.Idle, p.Residual = append(p.MilliWatts, v.mw[i].V), append(p.Idle, idle), append(p.Residual, rest)
	for id, list := range p.Requests {
		for len(list) <= n {
			list = append(list, 0)
		}
		p.Requests[id] = list
	}
}

// weightIn is a request's claim on a step, as long as its joules are not known.
func (r *liveShare) weightIn(v *deviceBins, b int64) (w float64) {
	for p, phase := range r.phases {
		w += v.weight[p] * float64(phase.overlap(b))
	}
	return w
}
