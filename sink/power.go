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
		{"at", "", "start of the span (UTC)", func(p *Power) any { return &p.At }},
		{"instance", "", "the wattline that measured it", func(p *Power) any { return &p.Instance }},
		{"device", "", "device, named as in gpu_devices", func(p *Power) any { return &p.Device }},
		{"span_us", "us", "length of the span: 1 s as measured, 60 s once thinned", func(p *Power) any { return &p.SpanUs }},
		{"energy_uj", "uJ", "energy drawn in the span", func(p *Power) any { return &p.EnergyUj }},
		{"error_uj", "uJ", "bound on how far energy_uj may be off", func(p *Power) any { return &p.ErrorUj }},
		{"mean_mw", "mW", "mean power in the span", func(p *Power) any { return &p.MeanMw }},
		{"min_mw", "mW", "lowest native sample in the span", func(p *Power) any { return &p.MinMw }},
		{"max_mw", "mW", "highest native sample in the span", func(p *Power) any { return &p.MaxMw }},
		{"temp_c", "Cel", "highest temperature in the span", func(p *Power) any { return &p.TempC }},
		{"mem_temp_c", "Cel", "highest temperature of the memory in the span", func(p *Power) any { return &p.MemTempC }},
		{"util_permille", "1/1000", "device utilisation as the driver reports it", func(p *Power) any { return &p.UtilPermille }},
		{"mem_util_permille", "1/1000", "share of time with memory being read or written, as the driver reports it", func(p *Power) any { return &p.MemUtilPermille }},
		{"vram_bytes", "By", "device memory in use", func(p *Power) any { return &p.VRAMBytes }},
		{"upstream_vram_bytes", "By", "of that, the upstream's processes'", func(p *Power) any { return &p.UpstreamVRAMBytes }},
		{"sm_clock_mhz", "MHz", "core clock", func(p *Power) any { return &p.SMClockMHz }},
		{"mem_clock_mhz", "MHz", "memory clock", func(p *Power) any { return &p.MemClockMHz }},
		{"limit_mw", "mW", "enforced power limit", func(p *Power) any { return &p.LimitMw }},
		{"throttled_us", "us", "part of the span in which the driver held the clocks down", func(p *Power) any { return &p.ThrottledUs }},
		{"throttle", "", "reasons the driver gave for it", func(p *Power) any { return &p.Throttle }},
		{"contended", "", "1: another process computed on the device too, 0: none did", func(p *Power) any { return &p.Contended }},
		{"source", "", "power source behind the row", func(p *Power) any { return &p.Source }},
		{"channel", "", "how its energy was obtained: ring, instant, average or counter", func(p *Power) any { return &p.Channel }},
		{"marked", "", "why energy_uj is to be taken with care, or is absent", func(p *Power) any { return &p.Marked }},
		{"simulated", "", "1: a simulated device, 0: a real one", func(p *Power) any { return &p.Simulated }},
	}
}
