package gpu

import "wattline/meter"

// Channel is one way in which a device reports power or energy.
type Channel string

// The channels, the finest first.
const (
	ChannelBuffer  Channel = "ring"    // driver's timestamped samples
	ChannelInstant Channel = "instant" // polled power, shortest window
	ChannelAverage Channel = "average" // polled power, averaged over a window (often 1 s)
	ChannelCounter Channel = "counter" // cumulative energy; gives the profile only where there is nothing finer
)

// Contention reports whether another process computes on a device.
type Contention uint8

// The states of contention.
const (
	ContentionUnknown Contention = iota // the process list, or which processes are the upstream's, is not known
	ContentionNone                      // only the upstream's processes
	ContentionOther                     // another process computes there too
)

// String returns "unknown", "none" or "other".
func (c Contention) String() string { return [...]string{"unknown", "none", "other"}[c] }

// MarshalText writes the name.
func (c Contention) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Batch holds what the sampler obtained from one device in one round. It is handed to Config.Handle on
// that device's goroutine; its slices are only valid during the call. Times are Clock stamps.
//
// Ticks and Samples are as the device gave them: lags are reported, not removed, because the estimates improve with time. To integrate, take the power at load time t from Samples at t +
// ProfileLagNs and the counter from Ticks at t + TickLagNs.
type Batch struct {
	Device int // place in Config.Targets
	Info   Info

	// Epoch grows when the device was lost or its counter was reset. Nothing may be integrated across
	// two epochs: what fell between them is not known. Began is when this one's first reading was
	// asked for. Ended is set on an epoch's last batch (which then has no samples), with the reason.
	Epoch int
	Began int64
	Ended string

	// At is the moment of this batch, as a recording gives it.
	At         int64
	statusRead bool // status or processes were asked for

	Ticks   []Tick   // every read at the energy counter, ascending
	Samples []Sample // of the finest trusted channel, ascending
	Through int64    // no Sample with an earlier At will follow in this epoch

	Profile      Channel // where Samples come from; "" where the device has no trusted power channel
	ProfileLagNs int64   // how far Samples trail the load (the window's own delay included)
	TickLagNs    int64   // how far Ticks trail the load
	LagsLearnt   bool    // false: ProfileLagNs is the source's expected lag
	ProfileErrNs int64   // what ProfileLagNs may be off
	TickErrNs    int64   // what TickLagNs may be off
	StepNs       int64   // spacing of the channel's updates
	WindowNs     int64   // what one Sample averages over

	// Disputed: counter and integrated power disagree and it is not known which one errs.
	Disputed bool

	// Status is the last state read beside power, StatusAt when that was; 0 where it was not read in this
	// round.
	StatusAt int64
	Status   Status

	Contention   Contention
	UpstreamMemB meter.Int // device memory of the upstream's processes, as far as it is known
	Rows         []Row     // completed seconds
}

// Row is one second of one device (the table `power`). What was not obtained is null.
type Row struct {
	Device       string     `json:"device"` // Info.UUID
	Source       string     `json:"source"`
	Simulated    bool       `json:"simulated,omitempty"`
	Epoch        int        `json:"epoch"`
	From         int64      `json:"from_ns"` // Clock stamp of the second's start, a whole second of wall time
	DurationNs   int64      `json:"duration_ns"`
	MeanMw       meter.Int  `json:"mean_mw"`
	MinMw        meter.Int  `json:"min_mw"`
	MaxMw        meter.Int  `json:"max_mw"`
	EnergyUj     meter.Int  `json:"energy_uj"`        // null unless the whole second is covered
	ErrorUj      meter.Int  `json:"error_uj"`         // bound on |EnergyUj - truth|
	Channel      Channel    `json:"channel"`          // where the energy comes from
	Marked       string     `json:"marked,omitempty"` // why the energy is to be taken with care
	Contention   Contention `json:"contention"`
	UpstreamMemB meter.Int  `json:"ours_mem_b"` // device memory of the upstream's processes
	Status
}
