package sink

import (
	"time"

	"wattline/meter"
)

// Power is one device's energy and state during one span: a second, or a minute once old rows have been
// downsampled. Device is the same name as in gpu_devices of a request.
type Power struct {
	At                time.Time // start of the span, UTC
	Instance          string
	Device            string
	SpanUs            meter.Int
	EnergyUj          meter.Int
	ErrorUj           meter.Int
	MeanMw            meter.Int
	MinMw             meter.Int
	MaxMw             meter.Int
	TempC             meter.Int
	MemTempC          meter.Int
	UtilPermille      meter.Int
	MemUtilPermille   meter.Int
	VRAMBytes         meter.Int
	UpstreamVRAMBytes meter.Int
	SMClockMHz        meter.Int
	MemClockMHz       meter.Int
	LimitMw           meter.Int
	ThrottledUs       meter.Int
	Throttle          []string // reasons, e.g. power cap, hardware thermal
	Contended         meter.Int
	Source            string
	Channel           string
	Marked            string
	Simulated         meter.Int
}

// PowerColumns returns the columns of table power in their canonical order.
func PowerColumns() []Column[Power] {
	return []Column[Power]{
		{1, "at", "", "start of the span (UTC)", func(p *Power) any { return &p.At }},
		{1, "instance", "", "the wattline that measured it", func(p *Power) any { return &p.Instance }},
		{1, "device", "", "device, named as in gpu_devices", func(p *Power) any { return &p.Device }},
		{1, "span_us", "us", "length of the span: 1 s as measured, 60 s once thinned", func(p *Power) any { return &p.SpanUs }},
		{1, "energy_uj", "uJ", "energy drawn in the span", func(p *Power) any { return &p.EnergyUj }},
		{2, "error_uj", "uJ", "bound on how far energy_uj may be off", func(p *Power) any { return &p.ErrorUj }},
		{1, "mean_mw", "mW", "mean power in the span", func(p *Power) any { return &p.MeanMw }},
		{2, "min_mw", "mW", "lowest native sample in the span", func(p *Power) any { return &p.MinMw }},
		{1, "max_mw", "mW", "highest native sample in the span", func(p *Power) any { return &p.MaxMw }},
		{1, "temp_c", "Cel", "highest temperature in the span", func(p *Power) any { return &p.TempC }},
		{2, "mem_temp_c", "Cel", "highest temperature of the memory in the span", func(p *Power) any { return &p.MemTempC }},
		{1, "util_permille", "1/1000", "device utilisation as the driver reports it", func(p *Power) any { return &p.UtilPermille }},
		{2, "mem_util_permille", "1/1000", "share of time with memory being read or written, as the driver reports it", func(p *Power) any { return &p.MemUtilPermille }},
		{1, "vram_bytes", "By", "device memory in use", func(p *Power) any { return &p.VRAMBytes }},
		{2, "upstream_vram_bytes", "By", "of that, the upstream's processes'", func(p *Power) any { return &p.UpstreamVRAMBytes }},
		{1, "sm_clock_mhz", "MHz", "core clock", func(p *Power) any { return &p.SMClockMHz }},
		{2, "mem_clock_mhz", "MHz", "memory clock", func(p *Power) any { return &p.MemClockMHz }},
		{1, "limit_mw", "mW", "enforced power limit", func(p *Power) any { return &p.LimitMw }},
		{1, "throttled_us", "us", "part of the span in which the driver held the clocks down", func(p *Power) any { return &p.ThrottledUs }},
		{1, "throttle", "", "reasons the driver gave for it", func(p *Power) any { return &p.Throttle }},
		{2, "contended", "", "1: another process computed on the device too, 0: none did", func(p *Power) any { return &p.Contended }},
		{1, "source", "", "power source behind the row", func(p *Power) any { return &p.Source }},
		{2, "channel", "", "how its energy was obtained: ring, instant, average or counter", func(p *Power) any { return &p.Channel }},
		{2, "marked", "", "why energy_uj is to be taken with care, or is absent", func(p *Power) any { return &p.Marked }},
		{2, "simulated", "", "1: a simulated device, 0: a real one", func(p *Power) any { return &p.Simulated }},
	}
}
