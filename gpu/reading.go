package gpu

import "wattline/meter"

// Reading is the result of one Read. The caller owns it and passes it again, so that reading allocates
// nothing; Buffer and Procs are only valid until the next Read.
type Reading struct {
	Before, After int64 // ns, around all calls of this Read

	Energy Tick     // Energy.OK false: not obtained
	Buffer []Sample // samples newer than those of the Read before, ascending

	PowerAt   int64     // ns, when InstantMw and AverageMw were obtained
	InstantMw meter.Int // the driver's shortest window
	AverageMw meter.Int // the driver's averaged power (1 s on current NVIDIA cards)

	Status Status

	Procs      []Process
	ProcsKnown bool // false: the list could not be read; an empty list with true means no process
}

// Reset empties r and keeps its buffers.
func (r *Reading) Reset() {
	*r = Reading{Buffer: r.Buffer[:0], Procs: r.Procs[:0]}
}

// stamp is the moment that a recording gives the reading: when the counter had been read, else power,
// else the rest.
func (r *Reading) stamp() int64 {
	switch {
	case r.Energy.OK:
		return r.Energy.After
	case r.InstantMw.Valid || r.AverageMw.Valid:
		return r.PowerAt
	}
	return r.After
}

// Tick is one read at a cumulative energy counter. A counter moves in steps (every 100 ms on an
// H100), so its value is that of its last step, which may lie well before the read. The sampler knows
// the steps' period and tells between which two moments the step was: Lo and Hi.
type Tick struct {
	Before int64 // ns, just before the call
	After  int64 // ns, just after it
	Lo, Hi int64 // ns, the counter took this value after Lo and not after Hi; a Device leaves them 0
	Uj     int64 // microjoules since an arbitrary start; NVML's millijoules times 1,000
	OK     bool
}

// Sample is one power value with its own time: the power over the sampling step that ends at At, as
// the channel reports it. The channel's lag is not removed.
type Sample struct {
	At int64 // ns
	Mw int64
}

// Status is the state of a device beside power.
type Status struct {
	UtilPct     meter.Int `json:"util_pct"`     // share of time with a kernel running
	MemUtilPct  meter.Int `json:"mem_util_pct"` // share of time with memory being read or written
	MemUsedB    meter.Int `json:"mem_used_b"`
	MemTotalB   meter.Int `json:"mem_total_b"`
	TempC       meter.Int `json:"temp_c"`
	MemTempC    meter.Int `json:"mem_temp_c"`
	SMClockMHz  meter.Int `json:"sm_clock_mhz"`
	MemClockMHz meter.Int `json:"mem_clock_mhz"`
	LimitMw     meter.Int `json:"limit_mw"`   // enforced power limit
	Throttle    meter.Int `json:"throttle"`   // Throttle bits
	ECCErrors   meter.Int `json:"ecc_errors"` // uncorrected, since the driver was loaded
	XID         meter.Int `json:"xid"`        // number of the last driver error since Open
	FanPct      meter.Int `json:"fan_pct"`
}

// Process computes on a device.
type Process struct {
	PID  int       `json:"pid"`
	MemB meter.Int `json:"mem_b"`
}

// Throttle are the reasons why clocks are held back, in NVML's own bits (nvmlClocksEventReasons).
type Throttle int64

// The bits that NVML documents.
const (
	ThrottleIdle          Throttle = 0x1
	ThrottleAppClocks     Throttle = 0x2
	ThrottlePowerCap      Throttle = 0x4
	ThrottleHwSlowdown    Throttle = 0x8
	ThrottleSyncBoost     Throttle = 0x10
	ThrottleSwThermal     Throttle = 0x20
	ThrottleHwThermal     Throttle = 0x40
	ThrottleHwPowerBrake  Throttle = 0x80
	ThrottleDisplayClocks Throttle = 0x100
)

// Strings returns the names of the set bits; idle clocks are no throttling and are left out.
func (t Throttle) Strings() []string {
	names := []struct {
		bit  Throttle
		name string
	}{
		{ThrottleAppClocks, "application clocks"}, {ThrottlePowerCap, "power cap"},
		{ThrottleHwSlowdown, "hardware slowdown"}, {ThrottleSyncBoost, "sync boost"},
		{ThrottleSwThermal, "software thermal"}, {ThrottleHwThermal, "hardware thermal"},
		{ThrottleHwPowerBrake, "power brake"}, {ThrottleDisplayClocks, "display clocks"},
	}
	var out []string
	for _, n := range names {
		if t&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}
