package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/gpu/sources"
	"wattline/sink/attribution"
)

type gpuCmd struct {
	GPU     string        `name:"gpu" help:"Source of power readings: ${enum}. sim is a simulated GPU." enum:"${gpu_sources}" default:"auto"`
	Watch   bool          `help:"Print one line for each device every second, until interrupted."`
	JSON    bool          `help:"Print one JSON object; with --watch, one per device and second." name:"json"`
	Look    time.Duration `help:"How long to sample before printing. Comparing the energy counter with power takes 15 s." default:"3s"`
	Wake    bool          `help:"Also read GPUs that are powered down. This wakes them up."`
	SysRoot string        `hidden:"" help:"Root of sysfs."`
	Store   string        `help:"SQLite file with the rows; coefficients that serve has learnt are in its folder. Default: ${store}." placeholder:"FILE"`
}

// Run shows the power readings of this machine's devices and their quality.
func (c *gpuCmd) Run(a *app) error {
	clock := gpu.NewClock()
	set, err := sources.Open(c.GPU, sources.Config{Clock: clock, Wake: c.Wake, Log: a.log, SysRoot: c.SysRoot})
	if err != nil {
		return err
	}
	defer set.Close() //nolint:errcheck // it was only read
	targets, err := set.Devices()
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		for _, name := range slices.Sorted(maps.Keys(set.Unavailable)) {
			fmt.Fprintf(a.stderr, "%s\n", set.Unavailable[name])
		}
		return errors.New("no device's power can be read here; \"wattline gpu --gpu sim\" shows a simulated GPU")
	}
	rows := make(chan gpu.Row, 100)
	s, err := gpu.Start(gpu.Config{Clock: clock, Targets: targets, Log: a.log, WakeSleeping: c.Wake, Handle: func(b *gpu.Batch) {
		if !c.Watch {
			return
		}
		for _, r := range b.Rows {
			select {
			case rows <- r:
			case <-a.ctx.Done():
			}
		}
	}})
	if err != nil {
		return err
	}
	defer s.Stop()
	if c.Watch {
		return c.watch(a, rows, targets)
	}
	return c.once(a, s, set.Unavailable)
}

// once samples for a while and prints a report.
func (c *gpuCmd) once(a *app, s *gpu.Sampler, notRead map[string]string) error {
	machine, err := discover.New("/proc")
	if err != nil {
		a.log.Warn("cannot read CPU and memory of this machine", "error", err)
	} else {
		machine.Read(nil) // the next read gives the CPU use since this one
	}
	select {
	case <-a.ctx.Done():
		return a.ctx.Err()
	case <-time.After(c.Look):
	}
	report := term.DeviceReport{Devices: s.States(), NotRead: notRead, Learnt: []attribution.Learnt{}}
	memory, err := attribution.OpenMemory(filepath.Join(filepath.Dir(a.storePath(c.Store)), attribution.MemoryFile))
	if err != nil {
		a.log.Warn("cannot read what serve has learnt", "error", err)
	}
	for _, l := range memory.All() {
		if slices.ContainsFunc(report.Devices, func(d gpu.State) bool { return d.Info.UUID == l.Device }) {
			report.Learnt = append(report.Learnt, l)
		}
	}
	if machine != nil {
		stats := machine.Read(nil)
		report.Host = &stats
	}
	if c.JSON {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	report.Print(a.stdout)
	return nil
}

// watch prints a row per device and second until the context ends.
func (c *gpuCmd) watch(a *app, rows <-chan gpu.Row, targets []gpu.Target) error {
	names := map[string]string{}
	for _, t := range targets {
		names[t.Info.UUID] = term.ShortDevice(t.Info)
	}
	e := json.NewEncoder(a.stdout)
	if !c.JSON {
		term.DeviceHeader(a.stdout)
	}
	for {
		select {
		case <-a.ctx.Done():
			return nil
		case r := <-rows:
			if c.JSON {
				if err := e.Encode(r); err != nil {
					return err
				}
				continue
			}
			if err := term.DeviceRow(a.stdout, names[r.Device], r); err != nil {
				return err
			}
		}
	}
}
