// Package sources is the table of power sources. A new source is one sub-package of gpu that
// implements gpu.Source, and one line of the table below: --gpu's choices, its automatic search and
// the reasons that `wattline gpu` shows follow from the table.
package sources

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"wattline/gpu"
	"wattline/gpu/amd"
	"wattline/gpu/nvml"
	"wattline/gpu/rapl"
	"wattline/gpu/sim"
	"wattline/gpu/smi"
)

// source is one line of the table.
type source struct {
	name string
	use  use
	open func(Config) (gpu.Source, error)

	// instead names an earlier source that reads the same devices better: automatic search tries this one
	// only where that one has none.
	instead string
}

// use says when a source is opened.
type use uint8

const (
	useGPU    use = iota // by automatic search, or by name
	useCPU               // beside any GPU source; it cannot be chosen
	useByName            // only by name, and then alone
)

// table lists the sources in the order in which they are tried.
var table = []source{
	{name: "nvml", open: func(c Config) (gpu.Source, error) {
		return c.unlessAsleep(func() (gpu.Source, error) { return nvml.New(c.Clock) })
	}},
	{name: "smi", instead: "nvml", open: func(c Config) (gpu.Source, error) {
		return c.unlessAsleep(func() (gpu.Source, error) { return smi.New(smi.Config{Clock: c.Clock, Log: c.Log}), nil })
	}},
	{name: "amd", open: func(c Config) (gpu.Source, error) { return amd.New(c.Clock, c.SysRoot), nil }},
	{name: "sim", use: useByName, open: func(c Config) (gpu.Source, error) { return sim.New(sim.Config{Clock: c.Clock, Keep: simKept}), nil }},
	{name: "rapl", use: useCPU, open: func(c Config) (gpu.Source, error) { return rapl.New(c.Clock, c.SysRoot), nil }},
}

const (
	auto = "auto"
	none = "none"

	// simKept is how much of a simulated card's past is kept: more than a delayed sampler looks back.
	simKept = 30 * time.Second
)

// ErrUnknown means that there is no source of the name that was asked for.
var ErrUnknown = errors.New("no such power source")

// Choices lists what Open takes: auto, the sources that can be chosen, none.
func Choices() []string {
	out := []string{auto}
	for _, s := range table {
		if s.use != useCPU {
			out = append(out, s.name)
		}
	}
	return append(out, none)
}

// Config holds what sources need to be opened.
type Config struct {
	Clock   gpu.Clock
	Wake    bool // also ask drivers that wake a card which is powered down
	Log     *slog.Logger
	SysRoot string // where the kernel shows devices; "" is /sys
}

// Set holds the sources that this machine has.
type Set struct {
	GPUs        []gpu.Source
	CPU         gpu.Source        // nil where the machine counts no CPU energy
	Activity    gpu.Activity      // set where a source has to be told what is in flight: the simulated card
	Unavailable map[string]string // why other sources are not among them, by name
	SysRoot     string
}

// Open opens the sources that --gpu names: one of Choices. For "auto" it is no error that there is none.
func Open(kind string, cfg Config) (*Set, error) {
	if cfg.SysRoot == "" {
		cfg.SysRoot = "/sys"
	}
	s := &Set{Unavailable: map[string]string{}, SysRoot: cfg.SysRoot}
	switch kind {
	case none:
		return s, nil
	case auto:
		s.search(cfg)
	default:
		i := slices.IndexFunc(table, func(t source) bool { return t.name == kind && t.use != useCPU })
		if i < 0 {
			return nil, fmt.Errorf("%w: %s", ErrUnknown, kind)
		}
		src, err := table[i].open(cfg)
		if err == nil {
			_, err = src.List()
		}
		if err != nil {
			return nil, err
		}
		s.GPUs = []gpu.Source{src}
		if a, ok := src.(gpu.Activity); ok {
			s.Activity = a
		}
		if table[i].use == useByName {
			return s, nil
		}
	}
	for _, t := range table {
		if t.use == useCPU {
			s.addCPU(t, cfg)
		}
	}
	return s, nil
}

// search adds every GPU source that has a device and notes why the others have none.
func (s *Set) search(cfg Config) {
	found := map[string]bool{}
	for _, t := range table {
		if t.use != useGPU || t.instead != "" && found[t.instead] {
			continue
		}
		src, err := t.open(cfg)
		if err == nil {
			var list []gpu.Info
			if list, err = src.List(); err == nil && len(list) == 0 {
				err = fmt.Errorf("%s: %w", t.name, gpu.ErrNone)
			}
		}
		if err == nil {
			s.GPUs, found[t.name] = append(s.GPUs, src), true
			continue
		}
		if src != nil {
			err = errors.Join(err, src.Close())
		}
		s.Unavailable[t.name] = err.Error()
	}
}

// addCPU adds a source of CPU energy if its first device can be opened.
func (s *Set) addCPU(t source, cfg Config) {
	src, err := t.open(cfg)
	if err == nil {
		err = readable(src)
	}
	if err != nil {
		s.Unavailable[t.name] = err.Error()
		return
	}
	s.CPU = src
}

// readable returns why the first device of a source cannot be opened.
func readable(s gpu.Source) error {
	list, err := s.List()
	if err != nil {
		return err
	}
	d, err := s.Open(list[0].UUID)
	if err != nil {
		return err
	}
	return d.Close()
}

// errAsleep means that NVIDIA's cards are powered down; asking the driver about them would wake them.
var errAsleep = fmt.Errorf("the NVIDIA card is powered down and was not woken; start the model server first, or use --wake: %w", gpu.ErrAsleep)

// unlessAsleep opens a source of NVIDIA's cards unless that would wake them.
func (c Config) unlessAsleep(open func() (gpu.Source, error)) (gpu.Source, error) {
	if !c.Wake && gpu.AllSuspended(c.SysRoot, gpu.VendorNVIDIA) {
		return nil, errAsleep
	}
	return open()
}

// Devices lists every device of all sources, the CPU's last.
func (s *Set) Devices() ([]gpu.Target, error) {
	sources := s.GPUs
	if s.CPU != nil {
		sources = append(slices.Clip(sources), s.CPU)
	}
	var out []gpu.Target
	for _, src := range sources {
		list, err := src.List()
		if err != nil {
			return nil, err
		}
		for _, in := range list {
			out = append(out, gpu.Target{Source: src, Info: in})
		}
	}
	return out, nil
}

// Close closes all sources.
func (s *Set) Close() error {
	var err error
	for _, src := range s.GPUs {
		err = errors.Join(err, src.Close())
	}
	if s.CPU != nil {
		err = errors.Join(err, s.CPU.Close())
	}
	return err
}
