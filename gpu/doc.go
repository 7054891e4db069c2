// Package gpu reads the power and energy of GPUs and CPUs at the finest resolution that the hardware
// offers, at less than half a percent of a core, and bounds the error of each result.
//
// A Source (nvml, smi, amd, rapl, sim: one sub-package each, the only ones to import their libraries)
// lists and opens devices. A Device answers a Read and has no goroutine. A Sampler owns
// the goroutines: it probes each device, learns its periods and lags, polls it fast while requests are
// in flight and slowly while none is, closes an epoch when a device is lost or its counter is reset,
// and hands out what it obtained as Batches: reads of the energy counter (Tick), timestamped power
// (Sample), and one Row a second. A Trace turns ticks and samples into joules between two moments,
// with a bound on the error. A Recorder writes a recording, Replay plays one as if it were a device.
//
// Units are in the names: Ns nanoseconds on a Clock, Uj microjoules, Mw milliwatts. What was not
// obtained is a null meter.Int, never a zero; the reason is in Info.Unavailable. SAMPLING.md says how all this works
// and what was measured of it.
package gpu
