package gpu

import "wattline/meter"

// Condition is how a device is doing.
type Condition string

// The conditions.
const (
	Probing Condition = "probing" // just opened: periods are being measured
	Live    Condition = "live"
	Asleep  Condition = "asleep" // powered down by the kernel and left so
	Lost    Condition = "lost"   // will be opened again
)

// State holds what is known about one device at a moment.
type State struct {
	Info      Info      `json:"info"`
	Condition Condition `json:"condition"`
	Why       string    `json:"why,omitempty"` // the last reason for not being live
	At        int64     `json:"at_ns"`

	Epoch     int `json:"epoch"`
	Reopens   int `json:"reopens"`
	Errors    int `json:"errors"`
	Missed    int `json:"samples_missed"`
	Demotions int `json:"demotions"`

	Profile  Channel                 `json:"shape"`
	Channels map[Channel]Calibration `json:"channels"`
	Demoted  map[Channel]string      `json:"demoted,omitempty"` // with the reason
	Disputed bool                    `json:"disputed,omitempty"`
	Calls    map[string]CallStats    `json:"calls"`

	// Agreement is the counter's joules per joule of the integrated profile, in parts per million.
	Agreement meter.Int `json:"agreement_ppm"`

	CPUNs  int64 `json:"cpu_ns"`  // CPU time of the device's thread
	WallNs int64 `json:"wall_ns"` // since the thread began

	InstantMw  meter.Int  `json:"instant_mw"`
	AverageMw  meter.Int  `json:"average_mw"`
	EnergyUj   meter.Int  `json:"energy_uj"`
	Status     Status     `json:"status"`
	Procs      []Process  `json:"processes"` // null where they could not be listed
	Contention Contention `json:"contention"`
	Row        *Row       `json:"row,omitempty"` // the last whole second
}

// Calibration holds what sampling has found out about a channel.
type Calibration struct {
	StepNs    int64 `json:"step_ns"`
	WindowNs  int64 `json:"window_ns"`
	LagNs     int64 `json:"lag_ns"`
	LagLearnt bool  `json:"lag_learnt"`
	Depth     int   `json:"depth,omitempty"` // samples that the buffer holds
}

// CallStats are the times of one group of calls.
type CallStats struct {
	Count int64 `json:"count"`
	P50Ns int64 `json:"p50_ns"`
	P99Ns int64 `json:"p99_ns"`
	MaxNs int64 `json:"max_ns"`
}

// String names the group, as State.Calls does.
func (w Metrics) String() string {
	switch w {
	case MetricEnergy:
		return "energy"
	case MetricBuffer:
		return "ring"
	case MetricPower:
		return "power"
	case MetricStatus:
		return "status"
	case MetricProcesses:
		return "processes"
	}
	return "several"
}
