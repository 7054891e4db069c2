package gpu

import "errors"

// Metrics selects what a Read asks for. Each bit is one group of calls with its own cost, so that the
// sampler can pay for each at its own pace.
type Metrics uint8

// The groups. What each costs on an H100: Energy 3-4 ms (31 ms at worst), Buffer 0.4 ms, Power 2 us,
// Status 50 us, Procs up to some milliseconds.
const (
	MetricEnergy    Metrics = 1 << iota // the cumulative energy counter
	MetricBuffer                        // the driver's ring buffer of timestamped power samples
	MetricPower                         // instant and average power
	MetricStatus                        // utilisation, memory, temperature, clocks, throttling, limit, faults
	MetricProcesses                     // processes that compute on the device
)

// Kind separates GPUs from CPUs: their energies are not added up.
type Kind string

// The kinds of device.
const (
	KindGPU Kind = "gpu"
	KindCPU Kind = "cpu" // RAPL: packages and DRAM of all sockets
)

// Info holds the facts about a device that are fixed while it is open.
type Info struct {
	UUID   string `json:"uuid"`  // what Source.Open takes; stable over driver reloads
	Index  int    `json:"index"` // the source's own number
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`
	Source string `json:"source"`        // "nvml", "smi", "amd", "rapl", "sim", "replay"
	PCI    string `json:"pci,omitempty"` // domain:bus:device.function, lower case
	Driver string `json:"driver,omitempty"`

	// Simulated is shown wherever a figure from this device is shown.
	Simulated bool `json:"simulated,omitempty"`

	// Expected holds what is known beforehand about this source's channels; the sampler learns better.
	Expected map[Channel]ChannelSpec `json:"-"`

	// Supported are the groups that answered when the device was opened.
	Supported Metrics `json:"-"`

	// Unavailable names what this device cannot tell, with the reason and, where there is one, the remedy:
	// "energy counter": "not supported by this card". Never written after Open.
	Unavailable map[string]string `json:"lacks,omitempty"`
}

// DisplayName is the device's name as people read it: a simulated one says so.
func (in Info) DisplayName() string {
	if in.Simulated {
		return "SIMULATED " + in.Name
	}
	return in.Name
}

// ChannelSpec is how a channel relates to the power that it reports.
type ChannelSpec struct {
	StepNs   int64 // spacing of its updates
	WindowNs int64 // what one value averages over
	LagNs    int64 // how far its step function trails the load, half the window included
}

// Device is one thing that draws power. A Device is used by one goroutine at a time; Read may block
// for tens of milliseconds, so that goroutine should have its own OS thread.
type Device interface {
	// Info returns what is fixed while the device is open, without asking the hardware.
	Info() Info

	// Read fills the groups of r that w asks for and that the device supports, sets Before and After
	// around the calls that it made, and leaves the rest of r as it is. A group that fails on its own
	// is null; an error means that the device as a whole did not answer: ErrLost, ErrNotReady,
	// ErrAsleep, or one that wraps none of them and may pass.
	Read(w Metrics, r *Reading) error

	// Close releases what Open took.
	Close() error
}

// Source lists and opens the devices of one library or file tree.
type Source interface {
	Name() string

	// List returns every device that the source can see, also those that cannot be read, without
	// waking one that sleeps.
	List() ([]Info, error)

	// Open opens a device by Info.UUID. It is called again after ErrLost, and must then find the
	// device anew (a driver reload changes handles).
	Open(uuid string) (Device, error)

	// Close releases the library. Devices are closed first.
	Close() error
}

// Errors that a Device or Source returns, wrapped.
var (
	// ErrLost: the device or its driver is gone; close it and open it again later.
	ErrLost = errors.New("device lost")
	// ErrNotReady: nothing to tell yet; ask again.
	ErrNotReady = errors.New("no reading yet")
	// ErrAsleep: the device is powered down and was not woken to be asked.
	ErrAsleep = errors.New("device asleep")
	// ErrPermission: this user may not read it; the message says which users may and what to do.
	ErrPermission = errors.New("no permission")
	// ErrNone: the source exists but has no such device, or the machine has no such source.
	ErrNone = errors.New("no such device")
)
