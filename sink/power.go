package sink

import (
	"time"

	"wattline/meter"
)

// Power is what one device drew during one span: a second as measured, a minute once old rows have been
// thinned. Device is the same name as in gpu_devices of a request.
type Power struct {
	At           time.Time // start of the span, UTC
	Instance     string
	Device       string
	SpanUs       meter.Int
	EnergyUj     meter.Int
	MeanMw       meter.Int
	MaxMw        meter.Int
	TempC        meter.Int
	UtilPermille meter.Int
	VRAMBytes    meter.Int
	SMClockMHz   meter.Int
	LimitMw      meter.Int
	ThrottledUs  meter.Int
	Throttle     []string // reasons, e.g. sw_power_cap, hw_thermal
	Source       string
}

// PowerColumns returns the columns of table power in their canonical order.
func PowerColumns() []Column[Power] {
	return []Column[Power]{
		{"at", "", "start of the span (UTC)", func(p *Power) any { return &p.At }},
		{"instance", "", "the wattline that measured it", func(p *Power) any { return &p.Instance }},
		{"device", "", "device, named as in gpu_devices", func(p *Power) any { return &p.Device }},
		{"span_us", "us", "length of the span: 1 s as measured, 60 s once thinned", func(p *Power) any { return &p.SpanUs }},
		{"energy_uj", "uJ", "energy drawn in the span", func(p *Power) any { return &p.EnergyUj }},
		{"mean_mw", "mW", "mean power in the span", func(p *Power) any { return &p.MeanMw }},
		{"max_mw", "mW", "highest native sample in the span", func(p *Power) any { return &p.MaxMw }},
		{"temp_c", "Cel", "highest temperature in the span", func(p *Power) any { return &p.TempC }},
		{"util_permille", "1/1000", "device utilisation as the driver reports it", func(p *Power) any { return &p.UtilPermille }},
		{"vram_bytes", "By", "device memory in use", func(p *Power) any { return &p.VRAMBytes }},
		{"sm_clock_mhz", "MHz", "core clock", func(p *Power) any { return &p.SMClockMHz }},
		{"limit_mw", "mW", "enforced power limit", func(p *Power) any { return &p.LimitMw }},
		{"throttled_us", "us", "part of the span in which the driver held the clocks down", func(p *Power) any { return &p.ThrottledUs }},
		{"throttle", "", "reasons the driver gave for it", func(p *Power) any { return &p.Throttle }},
		{"source", "", "power source behind the row", func(p *Power) any { return &p.Source }},
	}
}
