package gpu

import (
	"fmt"
	"sort"
	"time"
)

// Replay plays a recording as a device that is read now: a Source with one device, "replay", for tests
// and demonstrations. What it returns is the recording's, moved so that the recording begins at Start;
// calls take as long as they took when it was recorded. After its end the device is lost.
type Replay struct {
	Recording *Recording
	Clock     Clock
	Start     int64 // on Clock; 0 means when the device is first opened

	steps []Sample // the counter as a step function: At, microjoules in Mw
}

// Name implements Source.
func (p *Replay) Name() string { return "replay" }

// List implements Source.
func (p *Replay) List() ([]Info, error) { return []Info{p.info()}, nil }

// Close implements Source.
func (p *Replay) Close() error { return nil }

func (p *Replay) info() Info {
	in := Info{
		UUID: "replay", Name: "recording", Kind: KindGPU, Source: "replay",
		Supported: MetricStatus, Expected: map[Channel]ChannelSpec{},
	}
	for _, l := range p.Recording.Reads {
		if l.OK {
			in.Supported |= MetricEnergy
			in.Expected[ChannelCounter] = ChannelSpec{LagNs: 20e6}
		}
		if l.InstantMw.Valid || l.AverageMw.Valid {
			in.Supported |= MetricPower
		}
	}
	if in.Supported&MetricPower != 0 {
		in.Expected[ChannelInstant] = ChannelSpec{StepNs: 100e6, WindowNs: 25e6, LagNs: 50e6}
		in.Expected[ChannelAverage] = ChannelSpec{StepNs: 100e6, WindowNs: 1e9, LagNs: 550e6}
	}
	if len(p.Recording.Buffer) > 0 {
		in.Supported |= MetricBuffer
		in.Expected[ChannelBuffer] = ChannelSpec{StepNs: 20e6, WindowNs: 20e6, LagNs: 12e6}
	}
	return in
}

// Open implements Source.
func (p *Replay) Open(uuid string) (Device, error) {
	if uuid != "replay" {
		return nil, fmt.Errorf("replay: %w: %s", ErrNone, uuid)
	}
	if p.Start == 0 {
		p.Start = p.Clock.Now()
	}
	p.steps = p.Recording.Steps()
	from, _ := p.Recording.Span()
	return &replayed{p: p, info: p.info(), shift: p.Start - from}, nil
}

// Steps returns the counter as the recording shows it, as a step function: At is the middle between the two
// reads that saw it take a value, Mw that value in microjoules.
func (r *Recording) Steps() []Sample {
	var out []Sample
	var last Tick
	for _, t := range r.Reads {
		if !t.OK {
			continue
		}
		if !last.OK || t.Uj != last.Uj {
			from := t.Before
			if last.OK {
				from = last.Before
			}
			out = append(out, Sample{At: span{from, t.After}.mid(), Mw: t.Uj})
		}
		last = t.Tick
	}
	return out
}

// replayed is the device of a Replay.
type replayed struct {
	p     *Replay
	info  Info
	shift int64
	last  int64 // newest sample given, in the recording's time
}

func (d *replayed) Info() Info   { return d.info }
func (d *replayed) Close() error { return nil }

// bufferDepth and bufferAgeNs are the H100's.
const (
	bufferDepth = 119
	bufferAgeNs = 12e6
)

func (d *replayed) Read(w Metrics, r *Reading) error {
	r.Before = d.p.Clock.Now()
	at := r.Before - d.shift
	if _, end := d.p.Recording.Span(); at > end {
		return fmt.Errorf("replay: the recording has ended: %w", ErrLost)
	}
	reads := d.p.Recording.Reads
	i := max(0, sort.Search(len(reads), func(i int) bool { return reads[i].Before > at })-1)
	if w&MetricEnergy != 0 && len(d.p.steps) > 0 {
		d.energy(at, reads[i], r)
	}
	if w&MetricPower != 0 && len(reads) > 0 {
		r.PowerAt, r.InstantMw, r.AverageMw = d.p.Clock.Now(), reads[i].InstantMw, reads[i].AverageMw
	}
	if w&MetricStatus != 0 && len(reads) > 0 {
		l := reads[i]
		r.Status.TempC, r.Status.MemUsedB, r.Status.SMClockMHz, r.Status.Throttle = l.TempC, l.MemUsedB, l.SMClockMHz, l.Throttle
	}
	if w&MetricBuffer != 0 {
		d.buffer(at, r)
	}
	r.After = d.p.Clock.Now()
	return nil
}

// energy reads the counter halfway through a call that takes as long as the recorded one did.
func (d *replayed) energy(at int64, l RecordedRead, r *Reading) {
	took := l.After - l.Before
	steps := d.p.steps
	i := max(0, sort.Search(len(steps), func(i int) bool { return steps[i].At > at+took/2 })-1)
	r.Energy = Tick{Before: d.p.Clock.Now(), Uj: steps[i].Mw, OK: true}
	time.Sleep(time.Duration(took))
	r.Energy.After = d.p.Clock.Now()
}

func (d *replayed) buffer(at int64, r *Reading) {
	samples := d.p.Recording.Buffer
	to := sort.Search(len(samples), func(i int) bool { return samples[i].At > at-bufferAgeNs })
	from := max(to-bufferDepth, sort.Search(len(samples), func(i int) bool { return samples[i].At > d.last }))
	for _, s := range samples[from:max(from, to)] {
		d.last = s.At
		r.Buffer = append(r.Buffer, Sample{At: s.At + d.shift, Mw: s.Mw})
	}
}
