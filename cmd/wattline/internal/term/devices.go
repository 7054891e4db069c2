package term

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/meter"
	"wattline/replay/table"
	"wattline/sink/attribution"
)

// DeviceReport is the output of "wattline gpu --json".
type DeviceReport struct {
	Devices []gpu.State          `json:"devices"`
	Learnt  []attribution.Learnt `json:"learnt"`             // by serve, for these devices and the models on them
	NotRead map[string]string    `json:"not_read,omitempty"` // the reason, by source
	Host    *discover.Stats      `json:"host"`
}

// deviceRow is the layout of a line of gpu --watch.
const deviceRow = "%-8s  %-12s  %9s  %9s  %9s  %10s  %5s  %9s  %5s  %8s  %s\n"

// DeviceHeader prints the names of the columns of DeviceRow.
func DeviceHeader(w io.Writer) {
	fmt.Fprintf(w, deviceRow, "time", "device", "W", "min", "max", "J", "busy", "memory", "C", "SM MHz", "notes")
}

// DeviceRow prints one second of a device on one line.
func DeviceRow(w io.Writer, name string, r gpu.Row) error {
	notes := gpu.Throttle(r.Throttle.V).Strings()
	if r.Simulated {
		notes = append([]string{"simulated"}, notes...)
	}
	if r.Marked != "" {
		notes = append(notes, r.Marked)
	}
	_, err := fmt.Fprintf(table.Plain(w), deviceRow,
		time.Unix(0, r.From).Format(time.TimeOnly), name, reading(r.MeanMw, 1e3, "%.1f"), reading(r.MinMw, 1e3, "%.1f"), reading(r.MaxMw, 1e3, "%.1f"),
		reading(r.EnergyUj, 1e6, "%.2f"), reading(r.UtilPct, 1, "%.0f%%"), reading(r.MemUsedB, 1<<30, "%.1f GiB"), reading(r.TempC, 1, "%.0f"),
		reading(r.SMClockMHz, 1, "%.0f"), strings.Join(notes, ", "))
	return err
}

// reading prints v / unit, or a dash.
func reading(v meter.Int, unit float64, format string) string {
	if !v.Valid {
		return table.Absent
	}
	return fmt.Sprintf(format, float64(v.V)/unit)
}

// ShortDevice names a device in a narrow column.
func ShortDevice(in gpu.Info) string {
	if in.Kind == gpu.KindCPU {
		return "cpu"
	}
	return fmt.Sprintf("%s %d", in.Source, in.Index)
}

// Print writes the report as text.
func (r *DeviceReport) Print(w io.Writer) {
	w = table.Plain(w) // devices and drivers name themselves
	for _, d := range r.Devices {
		printDevice(w, &d, r.Learnt)
	}
	if h := r.Host; h != nil {
		fmt.Fprintf(w, "host: CPU %s busy, RAM %s of %s\n", reading(h.CPUPermille, 10, "%.0f %%"), reading(h.RAMUsedB, 1<<30, "%.1f"), reading(h.RAMTotalB, 1<<30, "%.1f GiB"))
	}
	for _, name := range slices.Sorted(maps.Keys(r.NotRead)) {
		fmt.Fprintf(w, "not read: %s\n", r.NotRead[name])
	}
}

func printDevice(w io.Writer, d *gpu.State, learnt []attribution.Learnt) {
	in := &d.Info
	simulated := ""
	if in.Simulated {
		simulated = "  SIMULATED"
	}
	fmt.Fprintf(w, "%s  %s%s\n", ShortDevice(*in), in.Name, simulated)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "  %-18s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("identity", "%s  %s  driver %s", in.UUID, table.OrAbsent(in.PCI), table.OrAbsent(in.Driver))
	if d.Condition != gpu.Live {
		line("state", "%s: %s", d.Condition, d.Why)
	}
	if in.Kind == gpu.KindGPU {
		printNow(line, d)
	}
	for _, c := range []gpu.Channel{gpu.ChannelCounter, gpu.ChannelBuffer, gpu.ChannelInstant, gpu.ChannelAverage} {
		if l, ok := d.Channels[c]; ok {
			printChannel(line, d, c, l)
		}
	}
	switch {
	case d.Agreement.Valid && d.Disputed:
		line("agreement", "DISPUTED: the energy counter and %s power differ by %+.2f %%", d.Profile, float64(d.Agreement.V-1e6)/1e4)
	case d.Agreement.Valid:
		line("agreement", "the energy counter and %s power differ by %+.2f %%", d.Profile, float64(d.Agreement.V-1e6)/1e4)
	case d.Channels[gpu.ChannelCounter] != (gpu.Calibration{}) && d.Profile != gpu.ChannelCounter:
		line("agreement", "of counter and power not known yet: sample longer, e.g. --look 15s")
	}
	if row := d.Row; row != nil && row.EnergyUj.Valid {
		line("last second", "%s J ± %s, %s to %s W, from the %s", reading(row.EnergyUj, 1e6, "%.2f"), reading(row.ErrorUj, 1e6, "%.2f"), reading(row.MinMw, 1e3, "%.1f"), reading(row.MaxMw, 1e3, "%.1f"), row.Channel)
		if row.Marked != "" {
			line("", "%s", row.Marked)
		}
	}
	line("sampling", "%.3f %% of one core; %d samples missed, %d errors, %d times lost, %d demotions", 100*float64(d.CPUNs)/float64(max(1, d.WallNs)), d.Missed, d.Errors, d.Reopens, d.Demotions)
	for _, p := range d.Procs {
		line("process", "%d %s, %s", p.PID, processName(p.PID), reading(p.MemB, 1<<30, "%.2f GiB"))
	}
	for i := range learnt {
		if learnt[i].Device == in.UUID {
			printLearnt(line, &learnt[i])
		}
	}
	for _, what := range slices.Sorted(maps.Keys(in.Unavailable)) {
		line("not available", "%s: %s", what, in.Unavailable[what])
	}
	fmt.Fprintln(w)
}

// printLearnt prints the learnt cost of a model's work on a device.
func printLearnt(line func(what, format string, args ...any), l *attribution.Learnt) {
	c, b := &l.Coefficients, &l.Baseline
	j := func(uj float64) string { return table.Number(uj/1e6) + " J" }
	line("learnt", "%s, %s", l.Model, l.At.Local().Format(time.DateTime))
	if c.Prefill > 0 {
		line("", "a prompt token %s, plus %s for each 1k tokens before it (%d prompts)", j(c.PrefillUJ), j(c.PositionUJ), c.Prefill)
	}
	if c.Decode > 0 {
		shared := "adjacent slots share a step"
		if c.Unified {
			shared = "all slots share a step"
		}
		line("", "a decode step %s, a token %s plus %s for each 1k tokens of context; %s; error %.1f %% (%d windows)",
			j(c.StepUJ), j(c.TokenUJ), j(c.ContextUJ), shared, 100*c.Rho, c.Decode)
	}
	if b.Windows > 0 {
		line("", "loaded and idle %.1f W at %.0f C, %+.2f W/C, ± %.1f W", b.BaseMW/1e3, b.RefC, b.SlopeMW/1e3, b.SigmaMW/1e3)
	}
}

// printNow prints the live readings of a GPU.
func printNow(line func(what, format string, args ...any), d *gpu.State) {
	s := &d.Status
	line("power", "%s instant, %s average, limit %s", reading(d.InstantMw, 1e3, "%.1f W"), reading(d.AverageMw, 1e3, "%.1f W"), reading(s.LimitMw, 1e3, "%.0f W"))
	line("load", "%s busy, memory %s of %s, memory bus %s", reading(s.UtilPct, 1, "%.0f %%"), reading(s.MemUsedB, 1<<30, "%.1f"), reading(s.MemTotalB, 1<<30, "%.1f GiB"), reading(s.MemUtilPct, 1, "%.0f %%"))
	line("temperature", "%s, memory %s, fan %s", reading(s.TempC, 1, "%.0f C"), reading(s.MemTempC, 1, "%.0f C"), reading(s.FanPct, 1, "%.0f %%"))
	throttle := table.Absent
	if s.Throttle.Valid {
		throttle = "none"
		if names := gpu.Throttle(s.Throttle.V).Strings(); len(names) > 0 {
			throttle = strings.Join(names, ", ")
		}
	}
	line("clocks", "SM %s, memory %s; throttled by: %s", reading(s.SMClockMHz, 1, "%.0f MHz"), reading(s.MemClockMHz, 1, "%.0f MHz"), throttle)
	line("errors", "ECC uncorrected %s, last XID %s", reading(s.ECCErrors, 1, "%.0f"), reading(s.XID, 1, "%.0f"))
}

// channelNames has the printed name of each channel, and the group of driver calls that reads it.
var channelNames = map[gpu.Channel]struct{ name, calls string }{
	gpu.ChannelCounter: {"energy counter", "energy"},
	gpu.ChannelBuffer:  {"power samples", "ring"},
	gpu.ChannelInstant: {"instant power", "power"},
	gpu.ChannelAverage: {"average power", "power"},
}

func printChannel(line func(what, format string, args ...any), d *gpu.State, c gpu.Channel, l gpu.Calibration) {
	name := channelNames[c]
	parts := []string{fmt.Sprintf("every %s", milliseconds(l.StepNs))}
	if l.WindowNs > 0 {
		parts = append(parts, "averages "+milliseconds(l.WindowNs))
	}
	if l.Depth > 0 {
		parts = append(parts, fmt.Sprintf("%d deep", l.Depth))
	}
	source := "expected"
	if l.LagLearnt {
		source = "learnt"
	}
	parts = append(parts, fmt.Sprintf("lag %s (%s)", milliseconds(l.LagNs), source))
	if k := d.Calls[name.calls]; k.Count > 0 {
		parts = append(parts, fmt.Sprintf("%d calls p50 %s p99 %s max %s", k.Count, milliseconds(k.P50Ns), milliseconds(k.P99Ns), milliseconds(k.MaxNs)))
	}
	if c == d.Profile {
		parts = append(parts, "power profile")
	}
	if why := d.Demoted[c]; why != "" {
		parts = append(parts, "NOT USED: "+why)
	}
	line(name.name, "%s", strings.Join(parts, ", "))
}

func milliseconds(ns int64) string { return fmt.Sprintf("%.4g ms", float64(ns)/1e6) }

// processName returns a process's name, or - if it cannot be read.
func processName(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "comm"))
	if err != nil {
		return table.Absent
	}
	return strings.TrimSpace(string(b))
}
