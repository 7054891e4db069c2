//go:build cgo && linux

package nvml

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"wattline/gpu"
	"wattline/meter"
)

// card is a mocked card, that answers like an H100 until a field says otherwise.
type card struct {
	lib    *mock.Interface
	dev    *mock.Device
	now    time.Time // of the ring's newest sample
	ring   []nvml.Sample
	energy uint64
	refuse nvml.Return // of every call on the device, unless SUCCESS
	xid    []uint64
	inits  int
}

func u32(v uint32) (b [8]byte) {
	binary.LittleEndian.PutUint32(b[:], v)
	return b
}

func newCard() *card {
	c := &card{energy: 24_247_006, now: time.Now().Round(0)}
	for i := range 119 {
		c.ring = append(c.ring, nvml.Sample{
			TimeStamp:   uint64(c.now.Add(time.Duration(i-118) * 20 * time.Millisecond).UnixMicro()),
			SampleValue: u32(uint32(120_000 + i)),
		})
	}
	c.dev = &mock.Device{
		GetUUIDFunc:               func() (string, nvml.Return) { return "GPU-1", nvml.SUCCESS },
		GetIndexFunc:              func() (int, nvml.Return) { return 0, nvml.SUCCESS },
		GetNameFunc:               func() (string, nvml.Return) { return "NVIDIA H100 80GB HBM3", nvml.SUCCESS },
		GetPciInfoFunc:            func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{Bus: 0xc3}, nvml.SUCCESS },
		GetMigModeFunc:            func() (int, int, nvml.Return) { return 0, 0, nvml.SUCCESS },
		GetVirtualizationModeFunc: func() (nvml.GpuVirtualizationMode, nvml.Return) { return 0, nvml.SUCCESS },
		GetArchitectureFunc: func() (nvml.DeviceArchitecture, nvml.Return) {
			return nvml.DEVICE_ARCH_HOPPER, nvml.SUCCESS
		},
		GetTotalEnergyConsumptionFunc: func() (uint64, nvml.Return) { return c.energy, c.refuse },
		GetSamplesFunc: func(_ nvml.SamplingType, last uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
			var out []nvml.Sample
			for _, s := range c.ring {
				if s.TimeStamp > last {
					out = append(out, s)
				}
			}
			if out == nil && c.refuse == nvml.SUCCESS {
				return nvml.VALUE_TYPE_UNSIGNED_INT, nil, nvml.ERROR_NOT_FOUND
			}
			return nvml.VALUE_TYPE_UNSIGNED_INT, out, c.refuse
		},
		GetFieldValuesFunc: func(fs []nvml.FieldValue) nvml.Return {
			for i := range fs {
				fs[i].ValueType = uint32(nvml.VALUE_TYPE_UNSIGNED_INT)
				fs[i].Value = u32(map[uint32]uint32{
					nvml.FI_DEV_POWER_INSTANT: 129_978, nvml.FI_DEV_POWER_AVERAGE: 141_382, nvml.FI_DEV_MEMORY_TEMP: 45,
				}[fs[i].FieldId])
			}
			return c.refuse
		},
		GetPowerUsageFunc: func() (uint32, nvml.Return) { return 141_382, c.refuse },
		GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: 98, Memory: 55}, c.refuse
		},
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 85e9, Used: 42_210_230_272}, c.refuse
		},
		GetTemperatureFunc: func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 37, c.refuse },
		GetClockInfoFunc: func(k nvml.ClockType) (uint32, nvml.Return) {
			return map[nvml.ClockType]uint32{nvml.CLOCK_SM: 1980, nvml.CLOCK_MEM: 2619}[k], c.refuse
		},
		GetEnforcedPowerLimitFunc:        func() (uint32, nvml.Return) { return 700_000, c.refuse },
		GetCurrentClocksEventReasonsFunc: func() (uint64, nvml.Return) { return 4, c.refuse },
		GetTotalEccErrorsFunc:            func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, c.refuse },
		GetFanSpeedFunc:                  func() (uint32, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED },
		RegisterEventsFunc:               func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS },
		GetComputeRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 4711, UsedGpuMemory: 16_900_000_000}, {Pid: 7, UsedGpuMemory: ^uint64(0)}}, c.refuse
		},
	}
	events := &mock.EventSet{
		FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
			if len(c.xid) == 0 {
				return nvml.EventData{}, nvml.ERROR_TIMEOUT
			}
			x := c.xid[0]
			c.xid = c.xid[1:]
			return nvml.EventData{EventType: nvml.EventTypeXidCriticalError, EventData: x}, nvml.SUCCESS
		},
	}
	c.lib = &mock.Interface{
		InitFunc:                   func() nvml.Return { c.inits++; return nvml.SUCCESS },
		ShutdownFunc:               func() nvml.Return { return nvml.SUCCESS },
		ErrorStringFunc:            func(r nvml.Return) string { return "Unknown Error" },
		DeviceGetCountFunc:         func() (int, nvml.Return) { return 1, nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(int) (nvml.Device, nvml.Return) { return c.dev, nvml.SUCCESS },
		DeviceGetHandleByUUIDFunc: func(u string) (nvml.Device, nvml.Return) {
			if u != "GPU-1" {
				return nil, nvml.ERROR_NOT_FOUND
			}
			return c.dev, nvml.SUCCESS
		},
		SystemGetDriverVersionFunc: func() (string, nvml.Return) { return "580.159.04", nvml.SUCCESS },
		EventSetCreateFunc:         func() (nvml.EventSet, nvml.Return) { return events, nvml.SUCCESS },
	}
	return c
}

// open opens the card.
func (c *card) open(t *testing.T) (gpu.Device, *Source) {
	t.Helper()
	s, err := newSource(c.lib, gpu.NewClock())
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Open("GPU-1")
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

const everything = gpu.MetricEnergy | gpu.MetricBuffer | gpu.MetricPower | gpu.MetricStatus | gpu.MetricProcesses

func TestRead(t *testing.T) {
	c := newCard()
	c.xid = []uint64{79, 48}
	d, _ := c.open(t)
	in := d.Info()
	if in.PCI != "0000:c3:00.0" || in.Driver != "580.159.04" || in.Supported != everything || in.Unavailable["fan"] == "" || len(in.Unavailable) != 1 {
		t.Errorf("info %+v", in)
	}
	var r gpu.Reading
	if err := d.Read(everything, &r); err != nil {
		t.Fatal(err)
	}
	if !r.Energy.OK || r.Energy.Uj != 24_247_006_000 || r.Energy.Before > r.Energy.After || r.Before > r.Energy.Before {
		t.Errorf("energy %+v", r.Energy)
	}
	if r.InstantMw != meter.Some(129_978) || r.AverageMw != meter.Some(141_382) {
		t.Errorf("power %+v %+v", r.InstantMw, r.AverageMw)
	}
	if len(r.Buffer) != 119 || r.Buffer[118].Mw != 120_118 || r.Buffer[118].At-r.Buffer[117].At < 19e6 {
		t.Errorf("ring of %d, last %+v", len(r.Buffer), r.Buffer[len(r.Buffer)-1])
	}
	if age := r.Before - r.Buffer[118].At; age < 0 || age > int64(time.Minute) {
		t.Errorf("newest sample is %d ns old", age)
	}
	want := gpu.Status{
		UtilPct: meter.Some(98), MemUtilPct: meter.Some(55), MemUsedB: meter.Some(42_210_230_272), MemTotalB: meter.Some(85e9),
		TempC: meter.Some(37), MemTempC: meter.Some(45), SMClockMHz: meter.Some(1980), MemClockMHz: meter.Some(2619),
		LimitMw: meter.Some(700_000), Throttle: meter.Some(4), ECCErrors: meter.Some(0), XID: meter.Some(48),
	}
	if r.Status != want {
		t.Errorf("status %+v, want %+v", r.Status, want)
	}
	if len(r.Procs) != 2 || r.Procs[0] != (gpu.Process{PID: 4711, MemB: meter.Some(16_900_000_000)}) || r.Procs[1].MemB.Valid {
		t.Errorf("processes %+v", r.Procs)
	}
	r.Reset()
	if err := d.Read(gpu.MetricBuffer, &r); err != nil || len(r.Buffer) != 0 {
		t.Errorf("second fetch: %d samples, error %v: nothing is new", len(r.Buffer), err)
	}
	if r.Energy.OK || r.InstantMw.Valid || r.ProcsKnown {
		t.Errorf("asked for the ring alone, got %+v", r)
	}
}

// TestMissing: what a card cannot tell is null and explained, and not asked for again.
func TestMissing(t *testing.T) {
	c := newCard()
	calls := 0
	c.dev.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) { calls++; return 0, nvml.ERROR_NOT_SUPPORTED }
	c.dev.GetSamplesFunc = func(nvml.SamplingType, uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
		return 0, nil, nvml.ERROR_NO_PERMISSION
	}
	c.dev.GetMigModeFunc = func() (int, int, nvml.Return) { return 1, 1, nvml.SUCCESS }
	c.dev.GetVirtualizationModeFunc = func() (nvml.GpuVirtualizationMode, nvml.Return) {
		return nvml.GPU_VIRTUALIZATION_MODE_VGPU, nvml.SUCCESS
	}
	d, _ := c.open(t)
	in := d.Info()
	if in.Supported&(gpu.MetricEnergy|gpu.MetricBuffer) != 0 {
		t.Errorf("offers %b", in.Supported)
	}
	for what, word := range map[string]string{
		"energy counter": "not supported", "power samples": "permission", "power of each MIG instance": "MIG", "power of the physical card": "vGPU",
	} {
		if !strings.Contains(in.Unavailable[what], word) {
			t.Errorf("lacks[%s] = %q, want a reason with %q", what, in.Unavailable[what], word)
		}
	}
	var r gpu.Reading
	for range 3 {
		if err := d.Read(everything, &r); err != nil {
			t.Fatal(err)
		}
	}
	if r.Energy.OK || len(r.Buffer) != 0 || !r.InstantMw.Valid || calls != 1 {
		t.Errorf("energy %+v, %d samples, instant %+v, %d calls", r.Energy, len(r.Buffer), r.InstantMw, calls)
	}
}

// TestOldDriver: the one power call of older drivers is an average or not, by the card's architecture.
func TestOldDriver(t *testing.T) {
	for _, x := range []struct {
		name     string
		arch     nvml.DeviceArchitecture
		averaged bool
	}{
		{"NVIDIA GeForce RTX 3090", nvml.DEVICE_ARCH_AMPERE, true},
		{"NVIDIA A100-SXM4-80GB", nvml.DEVICE_ARCH_AMPERE, false},
		{"Tesla V100", nvml.DEVICE_ARCH_VOLTA, false},
	} {
		c := newCard()
		c.dev.GetNameFunc = func() (string, nvml.Return) { return x.name, nvml.SUCCESS }
		c.dev.GetArchitectureFunc = func() (nvml.DeviceArchitecture, nvml.Return) { return x.arch, nvml.SUCCESS }
		c.dev.GetFieldValuesFunc = func(fs []nvml.FieldValue) nvml.Return {
			for i := range fs {
				fs[i].NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
			}
			return nvml.SUCCESS
		}
		d, _ := c.open(t)
		var r gpu.Reading
		if err := d.Read(gpu.MetricPower, &r); err != nil {
			t.Fatal(err)
		}
		if r.AverageMw.Valid != x.averaged || r.InstantMw.Valid == x.averaged {
			t.Errorf("%s: instant %+v, average %+v", x.name, r.InstantMw, r.AverageMw)
		}
	}
}

// TestLost: a card that is gone says so, and is found anew with a new connection; a device that was
// opened before that is lost too.
func TestLost(t *testing.T) {
	c := newCard()
	d, s := c.open(t)
	other, err := s.Open("GPU-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, ret := range []nvml.Return{nvml.ERROR_GPU_IS_LOST, nvml.ERROR_RESET_REQUIRED, nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED} {
		c.refuse = ret
		var r gpu.Reading
		for _, w := range []gpu.Metrics{gpu.MetricEnergy, gpu.MetricBuffer, gpu.MetricPower, gpu.MetricStatus, gpu.MetricProcesses} {
			if err := d.Read(w, &r); !errors.Is(err, gpu.ErrLost) {
				t.Errorf("%v, group %v: error %v, want a lost device", ret, w, err)
			}
		}
		if r.Energy.OK || r.InstantMw.Valid || r.Status.TempC.Valid {
			t.Errorf("%v: a lost card told %+v", ret, r)
		}
	}
	c.refuse = nvml.SUCCESS
	broken := 1
	c.lib.DeviceGetHandleByUUIDFunc = func(string) (nvml.Device, nvml.Return) {
		if broken--; broken == 0 {
			return nil, nvml.ERROR_UNKNOWN
		}
		return c.dev, nvml.SUCCESS
	}
	inits := c.inits
	d, err = s.Open("GPU-1")
	if err != nil || c.inits != inits+1 {
		t.Fatalf("reopening: %v, %d connections", err, c.inits-inits)
	}
	var r gpu.Reading
	if err := d.Read(gpu.MetricEnergy, &r); err != nil || !r.Energy.OK {
		t.Errorf("after reopening: %v, %+v", err, r.Energy)
	}
	if err := other.Read(gpu.MetricEnergy, &r); !errors.Is(err, gpu.ErrLost) {
		t.Errorf("a handle of the old connection: %v, want a lost device", err)
	}
	if err := errors.Join(d.Close(), other.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestTrouble: errors that say nothing about the card's life are errors, not a lost card; one status
// call that fails takes nothing else with it.
func TestTrouble(t *testing.T) {
	c := newCard()
	d, _ := c.open(t)
	c.dev.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) { return 0, nvml.ERROR_TIMEOUT }
	c.dev.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	var r gpu.Reading
	if err := d.Read(gpu.MetricEnergy, &r); err == nil || errors.Is(err, gpu.ErrLost) || r.Energy.OK {
		t.Errorf("error %v, energy %+v", err, r.Energy)
	}
	if err := d.Read(gpu.MetricStatus, &r); err != nil || r.Status.TempC.Valid || r.Status.SMClockMHz != meter.Some(1980) {
		t.Errorf("error %v, status %+v", err, r.Status)
	}
}

// TestNoDriver: what keeps the library from working is a sentence that says what to do.
func TestNoDriver(t *testing.T) {
	for ret, word := range map[nvml.Return]string{
		nvml.ERROR_LIBRARY_NOT_FOUND:       "install the NVIDIA driver",
		nvml.ERROR_DRIVER_NOT_LOADED:       "modprobe",
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: "reboot",
		nvml.ERROR_NO_PERMISSION:           "group",
		nvml.ERROR_UNKNOWN:                 "unknown",
	} {
		c := newCard()
		c.lib.InitFunc = func() nvml.Return { return ret }
		if _, err := newSource(c.lib, gpu.NewClock()); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v: %v, want %q in it", ret, err, word)
		}
	}
	if _, err := New(gpu.NewClock()); err != nil && !strings.Contains(err.Error(), "nvml: ") {
		t.Errorf("without a driver: %v", err)
	}
}

// TestList: a card that does not answer is listed with the reason.
func TestList(t *testing.T) {
	c := newCard()
	_, s := c.open(t)
	c.lib.DeviceGetCountFunc = func() (int, nvml.Return) { return 2, nvml.SUCCESS }
	c.lib.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 1 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return c.dev, nvml.SUCCESS
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].UUID != "GPU-1" || list[1].UUID != "" || list[1].Unavailable["everything"] == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := s.Open("GPU-2"); !errors.Is(err, gpu.ErrNone) {
		t.Errorf("opening a card that does not exist: %v", err)
	}
}
