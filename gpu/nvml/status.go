//go:build cgo && linux

package nvml

import (
	"errors"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"wattline/gpu"
	"wattline/meter"
)

// readStatus reads what the card has beside power. A call that fails leaves its value null; the return is
// not SUCCESS where the card is gone.
func (d *device) readStatus(r *gpu.Reading) (gone nvml.Return) {
	gone = nvml.SUCCESS
	set := func(what string, v *meter.Int, call func() (int64, nvml.Return)) {
		if !d.has[what] {
			return
		}
		x, ret := call()
		if ret == nvml.SUCCESS {
			*v = meter.Some(x)
			return
		}
		if errors.Is(failure(d.s.lib, ret), gpu.ErrLost) {
			gone = ret
		}
	}
	s := &r.Status
	*s = gpu.Status{}
	set(missingUtil, &s.UtilPct, func() (int64, nvml.Return) {
		u, ret := d.h.GetUtilizationRates()
		if ret == nvml.SUCCESS {
			s.MemUtilPct = meter.Some(int64(u.Memory))
		}
		return int64(u.Gpu), ret
	})
	set(missingMemory, &s.MemUsedB, func() (int64, nvml.Return) {
		m, ret := d.h.GetMemoryInfo()
		if ret == nvml.SUCCESS {
			s.MemTotalB = meter.Some(int64(m.Total))
		}
		return int64(m.Used), ret
	})
	set(missingTemp, &s.TempC, func() (int64, nvml.Return) { return wide(d.h.GetTemperature(nvml.TEMPERATURE_GPU)) })
	set(missingMemTemp, &s.MemTempC, func() (int64, nvml.Return) { return d.field(nvml.FI_DEV_MEMORY_TEMP) })
	set(missingClock, &s.SMClockMHz, func() (int64, nvml.Return) { return wide(d.h.GetClockInfo(nvml.CLOCK_SM)) })
	set(missingMemClk, &s.MemClockMHz, func() (int64, nvml.Return) { return wide(d.h.GetClockInfo(nvml.CLOCK_MEM)) })
	set(missingLimit, &s.LimitMw, func() (int64, nvml.Return) { return wide(d.h.GetEnforcedPowerLimit()) })
	set(missingFan, &s.FanPct, func() (int64, nvml.Return) { return wide(d.h.GetFanSpeed()) })
	set(missingReasons, &s.Throttle, func() (int64, nvml.Return) { return wide(d.h.GetCurrentClocksEventReasons()) })
	set(missingECC, &s.ECCErrors, func() (int64, nvml.Return) {
		return wide(d.h.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC))
	})
	d.readXID()
	s.XID = d.xid
	return gone
}

func wide[T uint32 | uint64](v T, ret nvml.Return) (int64, nvml.Return) { return int64(v), ret }

// readXID takes up the critical errors that were reported since the last call.
func (d *device) readXID() {
	if d.events == nil {
		return
	}
	for range 16 {
		e, ret := d.events.Wait(0)
		if ret != nvml.SUCCESS {
			return
		}
		if e.EventType == nvml.EventTypeXidCriticalError {
			d.xid = meter.Some(int64(e.EventData))
		}
	}
}

// readProcs lists the processes that compute on the card, by the driver's process ids: those of the host, not
// those that a container sees.
func (d *device) readProcs(r *gpu.Reading) nvml.Return {
	procs, ret := d.h.GetComputeRunningProcesses()
	if ret != nvml.SUCCESS {
		return ret
	}
	r.ProcsKnown = true
	for _, p := range procs {
		q := gpu.Process{PID: int(p.Pid)}
		if p.UsedGpuMemory != 0 && int64(p.UsedGpuMemory) != nvml.VALUE_NOT_AVAILABLE {
			q.MemB = meter.Some(int64(p.UsedGpuMemory))
		}
		r.Procs = append(r.Procs, q)
	}
	return ret
}
