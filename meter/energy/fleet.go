package energy

import "math"

// Fleet is several devices whose ledgers share requests: an upstream may run on more than one device,
// and a device may serve more than one upstream. A request's events go to every device of its upstream,
// and its account is complete when each of them has settled it.
//
// Samples, counter readings and the events of a device (temperature, contention, loss) go to its own
// ledger, Device(i). Like a Ledger, a Fleet belongs to one goroutine.
type Fleet struct {
	devices   []*Ledger
	upstreams []binding
	open      map[uint64]*Joint
	free      []*Joint
	ready     ring[*Joint]
}

// binding says where an upstream runs and what it is called there.
type binding struct {
	devices []int
	index   []int // of the upstream on that device
}

// Joint is the account of a request on all its devices. Parts[k] is its account on device Devices[k].
type Joint struct {
	Request uint64
	Devices []int
	Parts   []Result
	settled []bool
	left    int
}

// NewFleet joins ledgers.
func NewFleet(devices ...*Ledger) *Fleet {
	return &Fleet{devices: devices, open: map[uint64]*Joint{}}
}

// Device returns the ledger of device i.
func (f *Fleet) Device(i int) *Ledger { return f.devices[i] }

// AddUpstream registers a server that runs on the devices given by index, with what is known of its work
// on each (nil or shorter: nothing), and returns its index for Arrive events.
func (f *Fleet) AddUpstream(devices []int, known []Coefficients, unified bool) int {
	b := binding{}
	for k, d := range devices {
		var c Coefficients
		if k < len(known) {
			c = known[k]
		}
		b.devices = append(b.devices, d)
		b.index = append(b.index, f.devices[d].AddUpstream(c, unified))
	}
	f.upstreams = append(f.upstreams, b)
	return len(f.upstreams) - 1
}

// Coefficients returns what has been learnt of an upstream on each of its devices, in AddUpstream's order.
func (f *Fleet) Coefficients(upstream int) []Coefficients {
	b := f.upstreams[upstream]
	out := make([]Coefficients, len(b.devices))
	for k, d := range b.devices {
		out[k] = f.devices[d].Coefficients(b.index[k])
	}
	return out
}

// Event hands a request's event to every device of its upstream.
func (f *Fleet) Event(e Event) {
	if e.Kind == Arrive {
		f.arrive(e)
		return
	}
	j, ok := f.open[e.Request]
	if !ok {
		return
	}
	for _, d := range j.Devices {
		f.devices[d].Event(e)
	}
}

func (f *Fleet) arrive(e Event) {
	if _, twice := f.open[e.Request]; twice || e.Upstream < 0 || e.Upstream >= len(f.upstreams) {
		return
	}
	b := &f.upstreams[e.Upstream]
	j := f.joint()
	j.Request, j.left = e.Request, len(b.devices)
	for k, d := range b.devices {
		j.Devices = append(j.Devices, d)
		j.Parts = append(j.Parts, Result{})
		j.settled = append(j.settled, false)
		e.Upstream = b.index[k]
		f.devices[d].Event(e)
	}
	f.open[e.Request] = j
}

func (f *Fleet) joint() *Joint {
	if n := len(f.free); n > 0 {
		j := f.free[n-1]
		f.free = f.free[:n-1]
		*j = Joint{Devices: j.Devices[:0], Parts: j.Parts[:0], settled: j.settled[:0]}
		return j
	}
	return &Joint{}
}

// Advance tells every device the time.
func (f *Fleet) Advance(now int64) {
	for _, d := range f.devices {
		d.Advance(now)
	}
}

// Close closes every device's account.
func (f *Fleet) Close(now int64) {
	for _, d := range f.devices {
		d.Close(now)
	}
}

// Next returns the next request that is settled on all its devices. It is the caller's until Done.
func (f *Fleet) Next() (*Joint, bool) {
	for i, d := range f.devices {
		for r, ok := d.Next(); ok; r, ok = d.Next() {
			f.take(i, r)
		}
	}
	if f.ready.len() == 0 {
		return nil, false
	}
	return f.ready.pop(), true
}

// Done gives a Joint back for reuse.
func (f *Fleet) Done(j *Joint) { f.free = append(f.free, j) }

func (f *Fleet) take(device int, r Result) {
	j, ok := f.open[r.Request]
	if !ok {
		return
	}
	for k, d := range j.Devices {
		if d == device && !j.settled[k] {
			j.Parts[k], j.settled[k] = r, true
			j.left--
		}
	}
	if j.left == 0 {
		delete(f.open, r.Request)
		f.ready.push(j)
	}
}

// Sum is the account over all devices: joules and mean power add up, sigmas in squares, the quality is
// that of the least certain part.
func (j *Joint) Sum() Result {
	sum := Result{Request: j.Request, Quality: Measured, Split: true}
	var s2, a2 float64
	for k := range j.Parts {
		p := &j.Parts[k]
		if k == 0 {
			sum.Source = p.Source
		}
		sum.Quality = min(sum.Quality, p.Quality)
		sum.Split = sum.Split && p.Split
		sum.TotalUJ += p.TotalUJ
		sum.ActiveUJ += p.ActiveUJ
		sum.IdleUJ += p.IdleUJ
		sum.PrefillUJ += p.PrefillUJ
		sum.DecodeUJ += p.DecodeUJ
		sum.TimeUJ += p.TimeUJ
		sum.TokenUJ += p.TokenUJ
		sum.MeanMW += p.MeanMW
		sum.HoldNS = max(sum.HoldNS, p.HoldNS)
		s2 += float64(p.SigmaUJ) * float64(p.SigmaUJ)
		a2 += float64(p.ActiveSigmaUJ) * float64(p.ActiveSigmaUJ)
	}
	sum.SigmaUJ, sum.ActiveSigmaUJ = int64(math.Sqrt(s2)), int64(math.Sqrt(a2))
	if sum.Quality == BelowResolution && 1.96*math.Sqrt(s2) < float64(sum.TotalUJ) {
		sum.Quality = Shared // one part is too small to tell, the sum is not
	}
	return sum
}
