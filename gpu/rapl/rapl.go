// Package rapl reads the energy of the CPU packages and of their memory from the kernel's powercap
// tree (Intel's RAPL, which AMD's processors have too). All sockets are one device: the sum of every
// package and every DRAM zone. Zones inside a package (core, uncore) and psys, which overlaps with the
// packages, are not added.
//
// The counters wrap (a package's at 262 kJ, 22 minutes at 200 W); this is taken care of as long as they
// are read more often than that; after a longer pause the device counts as lost and opened anew.
package rapl

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"wattline/gpu"
)

// UUID is the name of the one device.
const UUID = "RAPL"

const remedy = `the kernel lets only root read CPU energy; run wattline as root, or let a group read it with a udev rule: ` +
	`ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", RUN+="/bin/chgrp wattline /sys%p/energy_uj", RUN+="/bin/chmod g+r /sys%p/energy_uj"`

// Source is a gpu.Source of the machine's processors.
type Source struct {
	clock gpu.Clock
	root  string
	open  func(path string) (*gpu.SysNumber, error) // gpu.OpenSysNumber but for tests
}

// New makes a source. sysRoot is /sys but for tests; nothing is read yet.
func New(clock gpu.Clock, sysRoot string) *Source {
	return &Source{clock: clock, root: filepath.Join(sysRoot, "class/powercap"), open: gpu.OpenSysNumber}
}

// Name implements gpu.Source.
func (s *Source) Name() string { return "rapl" }

// Close implements gpu.Source.
func (s *Source) Close() error { return nil }

// zones returns the folders to add up.
func (s *Source) zones() (paths []string, packages int, err error) {
	// Not intel-rapl-mmio, which is the same packages seen through other registers.
	all, err := filepath.Glob(filepath.Join(s.root, "intel-rapl:*"))
	if err != nil {
		return nil, 0, err
	}
	for _, dir := range all {
		switch name := gpu.SysWord(filepath.Join(dir, "name")); {
		case strings.HasPrefix(name, "package-"):
			packages++
			paths = append(paths, dir)
		case name == "dram":
			paths = append(paths, dir)
		}
	}
	if packages == 0 {
		return nil, 0, fmt.Errorf("rapl: %w: the kernel shows no CPU energy counters in %s (virtual machines seldom have them)", gpu.ErrNone, s.root)
	}
	return paths, packages, nil
}

// List implements gpu.Source.
func (s *Source) List() ([]gpu.Info, error) {
	paths, packages, err := s.zones()
	if err != nil {
		return nil, err
	}
	return []gpu.Info{info(len(paths)-packages, packages)}, nil
}

func info(drams, packages int) gpu.Info {
	in := gpu.Info{
		UUID: UUID, Kind: gpu.KindCPU, Source: "rapl", Supported: gpu.MetricEnergy,
		Name:        fmt.Sprintf("%d CPU package(s), %d DRAM zone(s)", packages, drams),
		Expected:    map[gpu.Channel]gpu.ChannelSpec{gpu.ChannelCounter: {StepNs: 1e6, LagNs: 1e6}},
		Unavailable: map[string]string{},
	}
	if drams == 0 {
		in.Unavailable["memory"] = "these processors do not count their memory's energy"
	}
	return in
}

// Open implements gpu.Source. Without permission the error wraps gpu.ErrPermission and says what to do.
func (s *Source) Open(string) (gpu.Device, error) {
	paths, packages, err := s.zones()
	if err != nil {
		return nil, err
	}
	d := &device{s: s, info: info(len(paths)-packages, packages)}
	for _, dir := range paths {
		z, err := s.openZone(dir)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.zones = append(d.zones, z)
	}
	return d, nil
}

func (s *Source) openZone(dir string) (*zone, error) {
	file, err := s.open(filepath.Join(dir, "energy_uj"))
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("rapl: %w: %s", gpu.ErrPermission, remedy)
	}
	if err != nil {
		return nil, fmt.Errorf("rapl: %w", err)
	}
	wrap, err := gpu.SysInt(filepath.Join(dir, "max_energy_range_uj"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rapl: %w", err), file.Close())
	}
	z := &zone{file: file, wrap: wrap}
	if z.last, err = file.Read(); err != nil {
		return nil, errors.Join(fmt.Errorf("rapl: %w", err), file.Close())
	}
	return z, nil
}

// zone is one counter. It counts from 0 to wrap and begins at 0 again.
type zone struct {
	file  *gpu.SysNumber
	wrap  int64
	last  int64
	total int64 // since it was opened
}

func (z *zone) read() error {
	v, err := z.file.Read()
	if err != nil {
		return err
	}
	d := v - z.last
	if d < 0 {
		d += z.wrap + 1
	}
	z.total += d
	z.last = v
	return nil
}

// device is all zones together.
type device struct {
	s      *Source
	info   gpu.Info
	zones  []*zone
	readAt int64
}

// mostWatts is more than any package draws.
const mostWatts = 1000

// wrapped reports whether a zone may have wrapped more than once since it was read, seconds ago.
func (d *device) wrapped(seconds float64) bool {
	return slices.ContainsFunc(d.zones, func(z *zone) bool { return seconds*mostWatts*1e6 > float64(z.wrap) })
}

func (d *device) Info() gpu.Info { return d.info }

func (d *device) Close() error {
	var err error
	for _, z := range d.zones {
		err = errors.Join(err, z.file.Close())
	}
	d.zones = nil
	return err
}

// Read implements gpu.Device. The sum is only given when every zone could be read.
func (d *device) Read(w gpu.Metrics, r *gpu.Reading) error {
	r.Before = d.s.clock.Now()
	r.After = r.Before
	if w&gpu.MetricEnergy == 0 {
		return nil
	}
	if pause := float64(r.Before-d.readAt) / 1e9; d.readAt > 0 && d.wrapped(pause) {
		return fmt.Errorf("rapl: %w: not read for %.0f s, in which a counter may have wrapped more than once", gpu.ErrLost, pause)
	}
	d.readAt = r.Before
	t := gpu.Tick{Before: r.Before, OK: true}
	for _, z := range d.zones {
		if err := z.read(); err != nil {
			return fmt.Errorf("rapl: %w: %w", gpu.ErrLost, err)
		}
		t.Uj += z.total
	}
	t.After = d.s.clock.Now()
	r.Energy, r.After = t, t.After
	return nil
}
