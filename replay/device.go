package replay

import (
	"slices"
	"time"

	"wattline/meter"
)

// Sample is a device's power and state in one span of time, as the admin listener's /api/energy gives it: a row
// of table power.
type Sample struct {
	At           time.Time `json:"at"`
	Device       string    `json:"device"`
	SpanUs       meter.Int `json:"span_us"`
	EnergyUj     meter.Int `json:"energy_uj"`
	MeanMw       meter.Int `json:"mean_mw"`
	MaxMw        meter.Int `json:"max_mw"`
	TempC        meter.Int `json:"temp_c"`
	UtilPermille meter.Int `json:"util_permille"`
	VRAMBytes    meter.Int `json:"vram_bytes"`
	SMClockMHz   meter.Int `json:"sm_clock_mhz"`
	LimitMw      meter.Int `json:"limit_mw"`
	ThrottledUs  meter.Int `json:"throttled_us"`
	Throttle     []string  `json:"throttle"`
	Source       string    `json:"source"`
}

// LedgerWindow is one window of the energy ledger, a row of table ledger.
type LedgerWindow struct {
	At               time.Time `json:"at"`
	Device           string    `json:"device"`
	SpanUs           meter.Int `json:"span_us"`
	CounterUj        meter.Int `json:"counter_uj"`
	RequestsActiveUj meter.Int `json:"requests_active_uj"`
	RequestsIdleUj   meter.Int `json:"requests_idle_uj"`
	PoolsUj          meter.Int `json:"pools_uj"`
	IdleUj           meter.Int `json:"idle_uj"`
	ResidualUj       meter.Int `json:"residual_uj"`
	Source           string    `json:"source"`
}

// Curve is a device's power as finely as its source gives it: MilliWatts at From, From+Step, ...
type Curve struct {
	Device     string    `json:"device"`
	From       time.Time `json:"from"`
	StepUs     int64     `json:"step_us"`
	MilliWatts []int64   `json:"mw"`
}

// DeviceInfo describes a card.
type DeviceInfo struct {
	Device       string    `json:"device"`
	Name         string    `json:"name"`
	Driver       string    `json:"driver"`
	PowerLimitMw meter.Int `json:"power_limit_mw"`
}

// Power is the answer of /api/energy?from=&to=: everything is empty where nothing is measured.
type Power struct {
	Devices []DeviceInfo   `json:"devices"`
	Samples []Sample       `json:"power"`
	Ledger  []LedgerWindow `json:"ledger"`
	Curves  []Curve        `json:"curves"`
}

// Device is power, temperature, clocks and memory of all cards together while cells ran.
type Device struct {
	Devices     []string `json:"devices"`
	MeanPowerW  Num      `json:"mean_power_w"` // all devices together
	MaxPowerW   Num      `json:"max_power_w"`
	IdleBeforeW Num      `json:"idle_before_w"` // the quietest second outside the cells
	PowerLimitW Num      `json:"power_limit_w"`
	TempStartC  Num      `json:"temp_start_c"`
	TempMaxC    Num      `json:"temp_max_c"`
	ClockMinMHz Num      `json:"clock_min_mhz"`
	ClockMaxMHz Num      `json:"clock_max_mhz"`
	VRAMBytes   Num      `json:"vram_peak_bytes"`
	ThrottledS  Num      `json:"throttled_s"`
	Throttle    []string `json:"throttle"`
}

// during returns the samples with their middle in a cell's span.
func (r *Run) during() []Sample {
	var out []Sample
	for _, s := range r.Power.Samples {
		middle := s.At.Add(time.Duration(s.SpanUs.V) * time.Microsecond / 2)
		if slices.ContainsFunc(r.Spans, func(p Span) bool { return !middle.Before(p.From) && middle.Before(p.To) }) {
			out = append(out, s)
		}
	}
	return out
}

func (r *Run) device() Device {
	var d Device
	for _, s := range r.Power.Samples {
		if !slices.Contains(d.Devices, s.Device) {
			d.Devices = append(d.Devices, s.Device)
		}
	}
	slices.Sort(d.Devices)
	in := r.during()
	pick := func(f func(Sample) meter.Int, unit float64) []float64 {
		var v []Num
		for _, s := range in {
			v = append(v, num(f(s)).Times(unit))
		}
		return Present(v)
	}
	d.IdleBeforeW = r.idleBefore()
	d.MeanPowerW = meanPower(in)
	d.MaxPowerW = highest(pick(func(s Sample) meter.Int { return s.MaxMw }, 1e-3))
	d.PowerLimitW = highest(pick(func(s Sample) meter.Int { return s.LimitMw }, 1e-3))
	temps := pick(func(s Sample) meter.Int { return s.TempC }, 1)
	d.TempMaxC = highest(temps)
	if len(temps) > 0 {
		d.TempStartC = Some(temps[0])
	}
	clocks := pick(func(s Sample) meter.Int { return s.SMClockMHz }, 1)
	d.ClockMaxMHz = highest(clocks)
	if len(clocks) > 0 {
		d.ClockMinMHz = Some(slices.Min(clocks))
	}
	d.VRAMBytes = highest(pick(func(s Sample) meter.Int { return s.VRAMBytes }, 1))
	d.ThrottledS, d.Throttle = throttled(in)
	return d
}

func highest(v []float64) Num {
	if len(v) == 0 {
		return Num{}
	}
	return Some(slices.Max(v))
}

// meanPower of all devices together.
func meanPower(in []Sample) Num {
	var joules, seconds float64
	devices := map[string]bool{}
	for _, s := range in {
		if !s.EnergyUj.Valid || !s.SpanUs.Valid {
			continue
		}
		devices[s.Device] = true
		joules += float64(s.EnergyUj.V) / 1e6
		seconds += float64(s.SpanUs.V) / 1e6
	}
	return Ratio(Some(joules), Some(seconds)).Times(float64(len(devices)))
}

// throttled is how long the driver lowered the clocks, and its reasons.
func throttled(in []Sample) (seconds Num, reasons []string) {
	var us []Num
	for _, s := range in {
		us = append(us, num(s.ThrottledUs).Times(1e-6))
		for _, t := range s.Throttle {
			if !slices.Contains(reasons, t) {
				reasons = append(reasons, t)
			}
		}
	}
	slices.Sort(reasons)
	return sum(us), reasons
}

// idleBefore is the draw of all devices together in the quietest second outside the cells: in the seconds
// before the run (its first throw-away requests come later), or between cells.
func (r *Run) idleBefore() Num {
	devices := map[string]bool{}
	drew := map[time.Time][]float64{} // by second, a value a device
	for _, s := range r.Power.Samples {
		devices[s.Device] = true
		end := s.At.Add(time.Duration(s.SpanUs.V) * time.Microsecond)
		within := func(p Span) bool { return overlap(s.At, end, p.From, p.To) > 0 }
		if s.MeanMw.Valid && !slices.ContainsFunc(r.Spans, within) {
			drew[s.At] = append(drew[s.At], float64(s.MeanMw.V)/1e3)
		}
	}
	quietest := Num{}
	for _, watts := range drew {
		total := 0.0
		for _, w := range watts {
			total += w
		}
		if len(watts) == len(devices) && (!quietest.Valid || total < quietest.V) {
			quietest = Some(total)
		}
	}
	return quietest
}

// drawTail is how long after a cell's last reply joules are still its requests': a device draws on for up to 0.1 s, and its
// readings come later than the draw.
const drawTail = 500 * time.Millisecond

// drawing returns the cells' spans with the tail behind each; those that overlap are one.
func (r *Run) drawing() []Span {
	var out []Span
	for _, s := range r.Spans {
		s.To = s.To.Add(drawTail)
		if n := len(out); n > 0 && !s.From.After(out[n-1].To) {
			out[n-1].To = s.To
			continue
		}
		out = append(out, s)
	}
	return out
}

// gross is the energy of all devices while cells ran and in the tail behind them, from the samples (scaled to the
// counter), and their source. Of a sample at an edge it is the part that the curve tells, or the whole where there is no
// curve: so it is never below what was attributed to the requests.
func (r *Run) gross() (wh Num, source string) {
	joules, covered, wanted := 0.0, 0.0, 0.0
	devices := map[string]bool{}
	spans := r.drawing()
	for _, s := range r.Power.Samples {
		devices[s.Device] = true
		if !s.EnergyUj.Valid || s.SpanUs.V <= 0 {
			continue
		}
		span := time.Duration(s.SpanUs.V) * time.Microsecond
		inside := time.Duration(0)
		for _, p := range spans {
			inside += overlap(s.At, s.At.Add(span), p.From, p.To)
		}
		covered += inside.Seconds()
		share := 1.0
		switch {
		case inside == 0:
			continue
		case inside < span:
			share = r.curveShare(s, span, spans)
		}
		joules += float64(s.EnergyUj.V) / 1e6 * share
		source = s.Source
	}
	for _, p := range spans {
		wanted += p.To.Sub(p.From).Seconds() * float64(len(devices))
	}
	const enough = 0.98 // of the time; a hole is not guessed over
	if wanted == 0 || covered < enough*wanted {
		return Num{}, ""
	}
	return Some(joules / 3600), source
}

// curveShare is the part of a sample's energy that its device's curve puts into the spans; 1 where no curve covers it.
func (r *Run) curveShare(s Sample, span time.Duration, spans []Span) float64 {
	i := slices.IndexFunc(r.Power.Curves, func(c Curve) bool { return c.Device == s.Device && c.StepUs > 0 })
	if i < 0 {
		return 1
	}
	c := &r.Power.Curves[i]
	step := time.Duration(c.StepUs) * time.Microsecond
	first := int(s.At.Sub(c.From) / step)
	last := int((s.At.Add(span).Sub(c.From) + step - 1) / step)
	if s.At.Before(c.From) || last > len(c.MilliWatts) {
		return 1
	}
	all, within := 0.0, 0.0
	for k := first; k < last; k++ {
		from := c.From.Add(time.Duration(k) * step)
		all += float64(c.MilliWatts[k])
		for _, p := range spans {
			within += float64(c.MilliWatts[k]) * overlap(from, from.Add(step), p.From, p.To).Seconds() / step.Seconds()
		}
	}
	if all <= 0 {
		return 1
	}
	return min(1, within/all)
}

func overlap(a, b, c, d time.Time) time.Duration {
	from, to := a, b
	if c.After(from) {
		from = c
	}
	if d.Before(to) {
		to = d
	}
	return max(0, to.Sub(from))
}
