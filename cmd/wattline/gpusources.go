package main

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

// gpuSources are the sources of devices that this machine has, and why others are not among them.
type gpuSources struct {
	GPUs []gpu.Source
	CPU  gpu.Source  // nil where the machine counts no CPU energy
	Sim  *sim.Source // set with --gpu sim: it has to be told what is in flight
	Not  map[string]string

	root string // where the kernel shows devices
}

// sysTree is where the kernel shows devices.
const sysTree = "/sys"

// simKept is how much of a simulated card's past is remembered: more than a sampler that was held up looks back.
const simKept = 30 * time.Second

// openGPUSources opens what --gpu asks for. auto takes NVML, else nvidia-smi, and the AMD cards beside
// them; that there is none is no error then. With wake, cards that are powered down are woken.
func openGPUSources(kind string, clock gpu.Clock, wake bool, log *slog.Logger, sysRoot string) (*gpuSources, error) {
	s := &gpuSources{Not: map[string]string{}, root: sysRoot}
	var err error
	switch kind {
	case "none":
		return s, nil
	case "sim":
		s.Sim = sim.New(sim.Config{Clock: clock, Keep: simKept})
		s.GPUs = []gpu.Source{s.Sim}
		return s, nil
	case "auto":
		if !s.try("nvml", func() (gpu.Source, error) { return openNVML(clock, wake, sysRoot) }) {
			s.try("smi", func() (gpu.Source, error) { return openSMI(clock, wake, log, sysRoot) })
		}
		s.try("amd", func() (gpu.Source, error) { return amd.New(clock, sysRoot), nil })
	default:
		open := map[string]func() (gpu.Source, error){
			"nvml": func() (gpu.Source, error) { return openNVML(clock, wake, sysRoot) },
			"smi":  func() (gpu.Source, error) { return openSMI(clock, wake, log, sysRoot) },
			"amd":  func() (gpu.Source, error) { return amd.New(clock, sysRoot), nil },
		}[kind]
		if open == nil {
			return nil, usageError("--gpu %s: want auto, nvml, smi, amd, sim or none", kind)
		}
		var src gpu.Source
		if src, err = open(); err == nil {
			_, err = src.List()
			s.GPUs = []gpu.Source{src}
		}
		if err != nil {
			return nil, err
		}
	}
	cpu := rapl.New(clock, sysRoot)
	if err := readable(cpu); err != nil {
		s.Not["rapl"] = err.Error()
	} else {
		s.CPU = cpu
	}
	return s, nil
}

// try adds a source that lists at least one device, or notes why not.
func (s *gpuSources) try(name string, open func() (gpu.Source, error)) bool {
	src, err := open()
	if err == nil {
		var list []gpu.Info
		if list, err = src.List(); err == nil && len(list) == 0 {
			err = fmt.Errorf("%s: %w", name, gpu.ErrNone)
		}
	}
	if err != nil {
		s.Not[name] = err.Error()
		if src != nil {
			if err := src.Close(); err != nil {
				s.Not[name] += "; " + err.Error()
			}
		}
		return false
	}
	s.GPUs = append(s.GPUs, src)
	return true
}

// errAsleep says that NVIDIA's cards are powered down; asking the driver about them would wake them.
var errAsleep = fmt.Errorf("the NVIDIA card is powered down and was not woken; start the model server first, or use --wake: %w", gpu.ErrAsleep)

func openNVML(clock gpu.Clock, wake bool, sysRoot string) (gpu.Source, error) {
	if !wake && gpu.AllSuspended(sysRoot, gpu.VendorNVIDIA) {
		return nil, errAsleep
	}
	return nvml.New(clock)
}

func openSMI(clock gpu.Clock, wake bool, log *slog.Logger, sysRoot string) (gpu.Source, error) {
	if !wake && gpu.AllSuspended(sysRoot, gpu.VendorNVIDIA) {
		return nil, errAsleep
	}
	return smi.New(smi.Config{Clock: clock, Log: log}), nil
}

// readable says whether the first device of a source can be opened.
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

// targets lists every device of all sources.
func (s *gpuSources) targets() ([]gpu.Target, error) {
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
func (s *gpuSources) Close() error {
	var err error
	for _, src := range s.GPUs {
		err = errors.Join(err, src.Close())
	}
	if s.CPU != nil {
		err = errors.Join(err, s.CPU.Close())
	}
	return err
}
