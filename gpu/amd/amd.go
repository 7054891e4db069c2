// Package amd reads AMD cards from what the amdgpu kernel driver shows in sysfs, without ROCm: power,
// energy where the driver counts it, utilisation, memory, temperatures, clocks.
//
// A card that is powered down is not woken: its files are only opened by Open, and the sampler reads
// its runtime status first (gpu.RuntimeSuspended).
package amd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"wattline/gpu"
	"wattline/meter"
)

// Source is a gpu.Source of the machine's AMD cards.
type Source struct {
	clock gpu.Clock
	root  string
}

// New makes a source. sysRoot is /sys but for tests; nothing is read yet.
func New(clock gpu.Clock, sysRoot string) *Source { return &Source{clock: clock, root: sysRoot} }

// Name implements gpu.Source.
func (s *Source) Name() string { return "amd" }

// Close implements gpu.Source.
func (s *Source) Close() error { return nil }

// card is a card's folder and what is fixed about it.
type card struct {
	dir  string
	info gpu.Info
}

// cards finds the cards by the folders of the DRM subsystem.
func (s *Source) cards() ([]card, error) {
	dirs, err := filepath.Glob(filepath.Join(s.root, "class/drm/card[0-9]*/device"))
	if err != nil {
		return nil, err
	}
	slices.Sort(dirs)
	var out []card
	for _, dir := range dirs {
		vendor, err := gpu.SysInt(filepath.Join(dir, "vendor"))
		if strings.Contains(filepath.Base(filepath.Dir(dir)), "-") || err != nil || vendor != 0x1002 {
			continue // a connector (card0-DP-1), or another vendor's
		}
		out = append(out, card{dir: dir, info: describe(dir, len(out))})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("amd: %w: no AMD card with the amdgpu driver in %s", gpu.ErrNone, filepath.Join(s.root, "class/drm"))
	}
	return out, nil
}

// describe reads what is fixed about a card; none of these files wakes it.
func describe(dir string, index int) gpu.Info {
	in := gpu.Info{Index: index, Kind: gpu.KindGPU, Source: "amd", Driver: "amdgpu", Unavailable: map[string]string{}}
	in.PCI = pciOf(gpu.SysWord(filepath.Join(dir, "uevent")))
	in.UUID = "AMD-" + in.PCI
	if id := gpu.SysWord(filepath.Join(dir, "unique_id")); id != "" {
		in.UUID = "AMD-" + id
	}
	in.Name = gpu.SysWord(filepath.Join(dir, "product_name"))
	if in.Name == "" {
		in.Name = "AMD GPU " + gpu.SysWord(filepath.Join(dir, "device"))
	}
	return in
}

// pciOf finds the PCI address in a uevent file.
func pciOf(uevent string) string {
	for line := range strings.Lines(uevent) {
		if slot, ok := strings.CutPrefix(strings.TrimSpace(line), "PCI_SLOT_NAME="); ok {
			return strings.ToLower(slot)
		}
	}
	return ""
}

// List implements gpu.Source.
func (s *Source) List() ([]gpu.Info, error) {
	cards, err := s.cards()
	if err != nil {
		return nil, err
	}
	out := make([]gpu.Info, len(cards))
	for i, c := range cards {
		out[i] = c.info
	}
	return out, nil
}

// Open implements gpu.Source.
func (s *Source) Open(uuid string) (gpu.Device, error) {
	cards, err := s.cards()
	if err != nil {
		return nil, err
	}
	for _, c := range cards {
		if c.info.UUID == uuid {
			return s.open(c)
		}
	}
	return nil, fmt.Errorf("amd: %w: %s", gpu.ErrNone, uuid)
}

// The files of a card. Scale turns a file's unit into the value's; negative scales divide.
var files = []struct {
	what  string // as Info.Unavailable names it
	path  string // below the card's folder; * in it is the hwmon folder's number
	scale int64
	value func(d *device) *meter.Int
}{
	{"instant power", "hwmon/hwmon*/power1_input", -1000, func(d *device) *meter.Int { return &d.instant }},
	{"average power", "hwmon/hwmon*/power1_average", -1000, func(d *device) *meter.Int { return &d.average }},
	{"energy counter", "hwmon/hwmon*/energy1_input", 1, func(d *device) *meter.Int { return &d.energy }},
	{"power limit", "hwmon/hwmon*/power1_cap", -1000, func(d *device) *meter.Int { return &d.status.LimitMw }},
	{"utilisation", "gpu_busy_percent", 1, func(d *device) *meter.Int { return &d.status.UtilPct }},
	{"memory utilisation", "mem_busy_percent", 1, func(d *device) *meter.Int { return &d.status.MemUtilPct }},
	{"memory", "mem_info_vram_used", 1, func(d *device) *meter.Int { return &d.status.MemUsedB }},
	{"memory size", "mem_info_vram_total", 1, func(d *device) *meter.Int { return &d.status.MemTotalB }},
	{"temperature", "hwmon/hwmon*/temp1_input", -1000, func(d *device) *meter.Int { return &d.status.TempC }},
	{"memory temperature", "hwmon/hwmon*/temp3_input", -1000, func(d *device) *meter.Int { return &d.status.MemTempC }},
	{"SM clock", "hwmon/hwmon*/freq1_input", -1_000_000, func(d *device) *meter.Int { return &d.status.SMClockMHz }},
	{"memory clock", "hwmon/hwmon*/freq2_input", -1_000_000, func(d *device) *meter.Int { return &d.status.MemClockMHz }},
}

// held is one open file.
type held struct {
	file  *gpu.SysNumber
	scale int64
	value *meter.Int
}

// device is an opened card.
type device struct {
	s    *Source
	info gpu.Info
	dir  string

	power, counter, state []held
	instant, average      meter.Int // mW
	energy                meter.Int // uJ
	status                gpu.Status
}

// open opens what there is and explains what there is not.
func (s *Source) open(c card) (gpu.Device, error) {
	d := &device{s: s, info: c.info, dir: c.dir}
	in := &d.info
	in.Supported = gpu.MetricStatus
	in.Unavailable["power samples"] = "the kernel driver keeps none"
	in.Unavailable["throttle reasons"] = "only in the driver's binary metrics, which differ by card"
	in.Unavailable["processes"] = "sysfs does not list them"
	for _, f := range files {
		h, why := d.hold(f.path, f.scale, f.value(d))
		if why != "" {
			in.Unavailable[f.what] = why
			continue
		}
		switch h.value {
		case &d.instant, &d.average:
			d.power = append(d.power, h)
			in.Supported |= gpu.MetricPower
		case &d.energy:
			d.counter = append(d.counter, h)
			in.Supported |= gpu.MetricEnergy
		default:
			d.state = append(d.state, h)
		}
	}
	d.expect()
	return d, nil
}

// hold opens one file. A file that is there but cannot be read (a sensor that the firmware lacks answers
// with an error) counts as missing.
func (d *device) hold(pattern string, scale int64, v *meter.Int) (held, string) {
	found, err := filepath.Glob(filepath.Join(d.dir, pattern))
	if err != nil || len(found) == 0 {
		return held{}, "not shown by the driver for this card"
	}
	file, err := gpu.OpenSysNumber(found[0])
	if err == nil {
		if _, err = file.Read(); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return held{}, "no permission to read " + found[0] + ": run as root, or in the group that may (often render or video)"
	}
	if err != nil {
		return held{}, err.Error()
	}
	return held{file, scale, v}, ""
}

// expect sets the facts known about the channels. power1_average is the firmware's average, whose window
// differs by generation; power1_input is a shorter one.
func (d *device) expect() {
	d.info.Expected = map[gpu.Channel]gpu.ChannelSpec{}
	for _, h := range d.power {
		switch h.value {
		case &d.instant:
			d.info.Expected[gpu.ChannelInstant] = gpu.ChannelSpec{StepNs: 50e6, WindowNs: 50e6, LagNs: 50e6}
		case &d.average:
			d.info.Expected[gpu.ChannelAverage] = gpu.ChannelSpec{StepNs: 100e6, WindowNs: 1e9, LagNs: 500e6}
		}
	}
	if len(d.counter) > 0 {
		d.info.Expected[gpu.ChannelCounter] = gpu.ChannelSpec{StepNs: 10e6, LagNs: 10e6}
	}
}

func (d *device) Info() gpu.Info { return d.info }

func (d *device) Close() error {
	var err error
	for _, hs := range [][]held{d.power, d.counter, d.state} {
		for _, h := range hs {
			err = errors.Join(err, h.file.Close())
		}
	}
	d.power, d.counter, d.state = nil, nil, nil
	return err
}

// Read implements gpu.Device. Values that fail are null; when all of a group fail the card is lost.
func (d *device) Read(w gpu.Metrics, r *gpu.Reading) error {
	r.Before = d.s.clock.Now()
	if w&gpu.MetricEnergy != 0 && len(d.counter) > 0 {
		t := gpu.Tick{Before: d.s.clock.Now()}
		err := read(d.counter)
		t.After = d.s.clock.Now()
		if err != nil {
			return err
		}
		t.Uj, t.OK = d.energy.V, d.energy.Valid
		r.Energy = t
	}
	if w&gpu.MetricPower != 0 && len(d.power) > 0 {
		if err := read(d.power); err != nil {
			return err
		}
		r.PowerAt, r.InstantMw, r.AverageMw = d.s.clock.Now(), d.instant, d.average
	}
	if w&gpu.MetricStatus != 0 && len(d.state) > 0 {
		if err := read(d.state); err != nil {
			return err
		}
		r.Status = d.status
	}
	r.After = d.s.clock.Now()
	return nil
}

// read reads files into their values.
func read(hs []held) error {
	var last error
	failed := 0
	for _, h := range hs {
		v, err := h.file.Read()
		if err != nil {
			failed, last = failed+1, err
			*h.value = meter.Int{}
			continue
		}
		if h.scale < 0 {
			v /= -h.scale
		} else {
			v *= h.scale
		}
		*h.value = meter.Some(v)
	}
	if failed == len(hs) {
		return fmt.Errorf("amd: %w: %w", gpu.ErrLost, last)
	}
	return nil
}
