//go:build cgo && linux

package nvml

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"wattline/gpu"
	"wattline/meter"
)

// device is one opened card. One goroutine uses it at a time.
type device struct {
	s          *Source
	h          nvml.Device
	info       gpu.Info
	generation int

	lastSeen uint64 // driver's stamp of the newest sample given, microseconds
	fields   [2]nvml.FieldValue
	legacy   bool // power comes from the call that older drivers have
	averaged bool // which then is an average
	has      map[string]bool
	events   nvml.EventSet
	xid      meter.Int
}

// What can be missing, as Info.Unavailable names it.
const (
	missingEnergy  = "energy counter"
	missingSamples = "power samples"
	missingPower   = "power"
	missingInstant = "instant power"
	missingUtil    = "utilisation"
	missingMemory  = "memory"
	missingTemp    = "temperature"
	missingMemTemp = "memory temperature"
	missingClock   = "SM clock"
	missingMemClk  = "memory clock"
	missingLimit   = "power limit"
	missingReasons = "throttle reasons"
	missingECC     = "ECC errors"
	missingXID     = "XID events"
	missingProcs   = "processes"
	missingFan     = "fan"
)

// probe asks for everything once, so that later only what exists is asked for, and what does not is
// explained.
func (d *device) probe() {
	d.has = map[string]bool{}
	in := &d.info
	in.Supported = gpu.MetricStatus
	in.Expected = map[gpu.Channel]gpu.ChannelSpec{}
	ok := func(what string, ret nvml.Return) bool {
		d.has[what] = ret == nvml.SUCCESS
		if ret != nvml.SUCCESS {
			in.Unavailable[what] = why(d.s.lib, ret)
		}
		return ret == nvml.SUCCESS
	}
	if _, ret := d.h.GetTotalEnergyConsumption(); ok(missingEnergy, ret) {
		in.Supported |= gpu.MetricEnergy
		in.Expected[gpu.ChannelCounter] = gpu.ChannelSpec{StepNs: 100e6, LagNs: 30e6}
	}
	if _, _, ret := d.h.GetSamples(nvml.TOTAL_POWER_SAMPLES, 0); ret == nvml.ERROR_NOT_FOUND || ok(missingSamples, ret) {
		in.Supported |= gpu.MetricBuffer
		in.Expected[gpu.ChannelBuffer] = gpu.ChannelSpec{StepNs: 20e6, WindowNs: 20e6, LagNs: 12e6}
	}
	d.probePower()
	_, ret := d.h.GetUtilizationRates()
	ok(missingUtil, ret)
	_, ret = d.h.GetMemoryInfo()
	ok(missingMemory, ret)
	_, ret = d.h.GetTemperature(nvml.TEMPERATURE_GPU)
	ok(missingTemp, ret)
	_, ret = d.field(nvml.FI_DEV_MEMORY_TEMP)
	ok(missingMemTemp, ret)
	_, ret = d.h.GetClockInfo(nvml.CLOCK_SM)
	ok(missingClock, ret)
	_, ret = d.h.GetClockInfo(nvml.CLOCK_MEM)
	ok(missingMemClk, ret)
	_, ret = d.h.GetEnforcedPowerLimit()
	ok(missingLimit, ret)
	_, ret = d.h.GetCurrentClocksEventReasons()
	ok(missingReasons, ret)
	_, ret = d.h.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	ok(missingECC, ret)
	_, ret = d.h.GetFanSpeed()
	ok(missingFan, ret)
	if _, ret = d.h.GetComputeRunningProcesses(); ok(missingProcs, ret) {
		in.Supported |= gpu.MetricProcesses
	}
	ok(missingXID, d.watchXID())
}

// probePower finds out which power readings exist. Drivers before 530 have one call, which is a 1 s
// average on Ampere and later except GA100, and instant power before.
func (d *device) probePower() {
	in := &d.info
	instant := gpu.ChannelSpec{StepNs: 100e6, WindowNs: 25e6, LagNs: 60e6}
	average := gpu.ChannelSpec{StepNs: 100e6, WindowNs: 1e9, LagNs: 550e6}
	var r gpu.Reading
	_ = d.readPower(&r) // what it could not read it leaves out
	if r.InstantMw.Valid || r.AverageMw.Valid {
		in.Supported |= gpu.MetricPower
		if r.InstantMw.Valid {
			in.Expected[gpu.ChannelInstant] = instant
		} else {
			in.Unavailable[missingInstant] = "not supported by this card or driver"
		}
		if r.AverageMw.Valid {
			in.Expected[gpu.ChannelAverage] = average
		}
		return
	}
	if _, ret := d.h.GetPowerUsage(); ret != nvml.SUCCESS {
		in.Unavailable[missingPower] = why(d.s.lib, ret)
		return
	}
	in.Supported |= gpu.MetricPower
	d.legacy = true
	arch, ret := d.h.GetArchitecture()
	ga100 := strings.Contains(in.Name, "A100") || strings.Contains(in.Name, "A30")
	d.averaged = ret == nvml.SUCCESS && arch >= nvml.DEVICE_ARCH_AMPERE && !ga100
	if d.averaged {
		in.Unavailable[missingInstant] = "this driver has none (530 or later has)"
		in.Expected[gpu.ChannelAverage] = average
		return
	}
	in.Expected[gpu.ChannelInstant] = instant
}

// watchXID registers for critical errors.
func (d *device) watchXID() nvml.Return {
	set, ret := d.s.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		return ret
	}
	if ret = d.h.RegisterEvents(nvml.EventTypeXidCriticalError, set); ret != nvml.SUCCESS {
		_ = set.Free() // the first error is the one to tell
		return ret
	}
	d.events = set
	return nvml.SUCCESS
}

func (d *device) Info() gpu.Info { return d.info }

func (d *device) Close() error {
	if d.events != nil && !d.s.stale(d.generation) {
		if ret := d.events.Free(); ret != nvml.SUCCESS {
			return fmt.Errorf("nvml: free events: %w", failure(d.s.lib, ret))
		}
	}
	d.events = nil
	return nil
}

// Read implements gpu.Device.
func (d *device) Read(w gpu.Metrics, r *gpu.Reading) error {
	if d.s.stale(d.generation) {
		return fmt.Errorf("nvml: the library was connected anew: %w", gpu.ErrLost)
	}
	r.Before = d.s.clock.Now()
	w &= d.info.Supported
	var ret nvml.Return
	worst := nvml.SUCCESS
	note := func(r nvml.Return) {
		if r != nvml.SUCCESS && r != nvml.ERROR_NOT_SUPPORTED {
			worst = r
		}
	}
	if w&gpu.MetricEnergy != 0 {
		ret = d.readEnergy(r)
		note(ret)
	}
	if w&gpu.MetricBuffer != 0 {
		ret = d.readSamples(r)
		note(ret)
	}
	if w&gpu.MetricPower != 0 {
		ret = d.readPower(r)
		note(ret)
	}
	if w&gpu.MetricStatus != 0 {
		ret = d.readStatus(r)
		note(ret)
	}
	if w&gpu.MetricProcesses != 0 {
		ret = d.readProcs(r)
		note(ret)
	}
	r.After = d.s.clock.Now()
	if worst != nvml.SUCCESS {
		return fmt.Errorf("nvml: read %s: %w", d.info.UUID, failure(d.s.lib, worst))
	}
	return nil
}

func (d *device) readEnergy(r *gpu.Reading) nvml.Return {
	t := gpu.Tick{Before: d.s.clock.Now()}
	mj, ret := d.h.GetTotalEnergyConsumption()
	t.After = d.s.clock.Now()
	if ret == nvml.SUCCESS {
		t.Uj, t.OK = int64(mj)*1000, true
		r.Energy = t
	}
	return ret
}

// readSamples fetches the samples that the driver has taken since the last fetch. It stamps them with
// CLOCK_REALTIME in microseconds.
func (d *device) readSamples(r *gpu.Reading) nvml.Return {
	kind, samples, ret := d.h.GetSamples(nvml.TOTAL_POWER_SAMPLES, d.lastSeen)
	if ret == nvml.ERROR_NOT_FOUND { // nothing new
		return nvml.SUCCESS
	}
	if ret != nvml.SUCCESS {
		return ret
	}
	for _, s := range samples {
		mw, ok := value(kind, s.SampleValue)
		if s.TimeStamp <= d.lastSeen || !ok {
			continue
		}
		d.lastSeen = s.TimeStamp
		r.Buffer = append(r.Buffer, gpu.Sample{At: d.s.clock.FromReal(int64(s.TimeStamp) * 1000), Mw: mw})
	}
	return nvml.SUCCESS
}

// value reads one of the library's tagged unions as an integer.
func value(kind nvml.ValueType, b [8]byte) (int64, bool) {
	switch kind {
	case nvml.VALUE_TYPE_UNSIGNED_INT:
		return int64(binary.LittleEndian.Uint32(b[:])), true
	case nvml.VALUE_TYPE_UNSIGNED_LONG, nvml.VALUE_TYPE_UNSIGNED_LONG_LONG, nvml.VALUE_TYPE_SIGNED_LONG_LONG:
		return int64(binary.LittleEndian.Uint64(b[:])), true
	case nvml.VALUE_TYPE_SIGNED_INT:
		return int64(int32(binary.LittleEndian.Uint32(b[:]))), true
	case nvml.VALUE_TYPE_DOUBLE:
		return int64(math.Float64frombits(binary.LittleEndian.Uint64(b[:]))), true
	}
	return 0, false
}

// field reads one field value.
func (d *device) field(id uint32) (int64, nvml.Return) {
	d.fields[0] = nvml.FieldValue{FieldId: id}
	if ret := d.h.GetFieldValues(d.fields[:1]); ret != nvml.SUCCESS {
		return 0, ret
	}
	return d.taken(0)
}

func (d *device) taken(i int) (int64, nvml.Return) {
	f := &d.fields[i]
	if ret := nvml.Return(f.NvmlReturn); ret != nvml.SUCCESS {
		return 0, ret
	}
	v, ok := value(nvml.ValueType(f.ValueType), f.Value)
	if !ok {
		return 0, nvml.ERROR_NOT_SUPPORTED
	}
	return v, nvml.SUCCESS
}

// readPower reads instant and average power. Scope 0 is the GPU; scope 1 and 2 are the module and the
// memory.
func (d *device) readPower(r *gpu.Reading) nvml.Return {
	if d.legacy {
		mw, ret := d.h.GetPowerUsage()
		r.PowerAt = d.s.clock.Now()
		if ret != nvml.SUCCESS {
			return ret
		}
		if d.averaged {
			r.AverageMw = meter.Some(int64(mw))
		} else {
			r.InstantMw = meter.Some(int64(mw))
		}
		return ret
	}
	d.fields = [2]nvml.FieldValue{{FieldId: nvml.FI_DEV_POWER_INSTANT}, {FieldId: nvml.FI_DEV_POWER_AVERAGE}}
	if ret := d.h.GetFieldValues(d.fields[:]); ret != nvml.SUCCESS {
		return ret
	}
	r.PowerAt = d.s.clock.Now()
	if mw, ret := d.taken(0); ret == nvml.SUCCESS {
		r.InstantMw = meter.Some(mw)
	}
	if mw, ret := d.taken(1); ret == nvml.SUCCESS {
		r.AverageMw = meter.Some(mw)
	}
	return nvml.SUCCESS
}
