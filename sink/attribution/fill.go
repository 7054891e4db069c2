package attribution

import (
	"math"

	"wattline/meter"
	"wattline/meter/energy"
)

// method is what rows say divided their joules.
const method = "phase"

// fill writes a request's results, summed over its devices, into its row. A device that told nothing
// makes the whole unavailable: a part of the joules is not the request's joules. On a machine without a GPU
// the processor's joules are all there is, and the row's quality is theirs.
func (s *settler) fill(w *waiting) {
	rec := w.rec
	var room [2][4]energy.Result
	gpus, processors := room[0][:0], room[1][:0]
	var first *deviceLedger
	lacking := false
	for i, at := range w.to.devices {
		d := s.devices[at]
		if d.processor {
			if w.got[i] {
				processors = append(processors, w.results[i])
			}
			continue
		}
		if first == nil || first.source == "" {
			first = d
		}
		if lacking = lacking || !w.got[i]; w.got[i] {
			gpus = append(gpus, w.results[i])
		}
	}
	rec.GPUDevices = w.to.names
	s.fillGauges(w)
	rec.EnergyQuality = meter.EnergyUnavailable
	s.fillProcessor(rec, processors, len(s.devices) == s.cfg.Processors)
	switch {
	case len(gpus) == 0:
		return
	case lacking:
		rec.EnergyQuality = meter.EnergyPartial
		return
	}
	sum := sumResults(gpus)
	rec.EnergyQuality = sum.Quality.String()
	if sum.Quality == energy.Unavailable {
		return
	}
	fillResult(rec, &sum, method, first.names(sum.Source))
	for _, r := range gpus {
		if rec.GPUUj.Valid {
			rec.GPUUjByDevice = append(rec.GPUUjByDevice, r.TotalUJ)
		}
	}
}

// names says where a device's joules come from: its driver and what of it.
func (d *deviceLedger) names(channel string) string {
	if d.said == "" || d.told != channel {
		d.told, d.said = channel, d.source+"/"+channel
	}
	return d.said
}

// CPUSource is where a processor's joules come from.
const CPUSource = "rapl"

// fillProcessor writes the joules of the processor; alone says that the machine has no GPU.
func (s *settler) fillProcessor(rec *meter.Record, results []energy.Result, alone bool) {
	if len(results) == 0 {
		return
	}
	sum := sumResults(results)
	if alone {
		rec.EnergyQuality = sum.Quality.String()
	}
	if sum.Quality == energy.Unavailable {
		return
	}
	if alone {
		rec.EnergyMethod, rec.EnergySource = method, CPUSource+"/"+sum.Source
	}
	if sum.Quality != energy.BelowResolution {
		rec.CPUUj = meter.Some(sum.TotalUJ)
	}
}

func (s *settler) fillGauges(w *waiting) {
	var mem, limit int64
	n, memKnown, limitKnown := 0, true, true
	for _, i := range w.to.devices {
		d := s.devices[i]
		if d.processor {
			continue
		}
		n++
		memKnown, limitKnown = memKnown && d.memB.Valid, limitKnown && d.limitMw.Valid
		mem, limit = mem+d.memB.V, limit+d.limitMw.V
	}
	if memKnown && n > 0 {
		w.rec.VRAMBytes = meter.Some(mem)
	}
	if limitKnown && n > 0 {
		w.rec.GPUPowerLimitMw = meter.Some(limit)
	}
	w.rec.GPUTempC = w.maxTemp
}

// sumResults adds results of one request on several devices: joules add, so do variances (the devices' errors
// are independent), and what is not known of one is not known of all.
func sumResults(results []energy.Result) energy.Result {
	total := results[0]
	var v, va float64
	for i, r := range results {
		v += float64(r.SigmaUJ) * float64(r.SigmaUJ)
		va += float64(r.ActiveSigmaUJ) * float64(r.ActiveSigmaUJ)
		if i == 0 {
			continue
		}
		total.TotalUJ += r.TotalUJ
		total.ActiveUJ += r.ActiveUJ
		total.IdleUJ += r.IdleUJ
		total.PrefillUJ += r.PrefillUJ
		total.DecodeUJ += r.DecodeUJ
		total.TimeUJ += r.TimeUJ
		total.TokenUJ += r.TokenUJ
		total.MeanMW += r.MeanMW
		total.Split = total.Split && r.Split
	}
	total.SigmaUJ, total.ActiveSigmaUJ = int64(math.Ceil(math.Sqrt(v))), int64(math.Ceil(math.Sqrt(va)))
	total.Quality = quality(results, &total)
	return total
}

// quality is the worst of all devices', but that one of them is below resolution says nothing: only the
// sum may be.
func quality(results []energy.Result, total *energy.Result) energy.Quality {
	q := energy.Measured
	for _, r := range results {
		if r.Quality != energy.BelowResolution {
			q = min(q, r.Quality)
		}
	}
	if q > energy.Partial && 1.96*float64(total.SigmaUJ) >= float64(total.TotalUJ) {
		q = energy.BelowResolution
	}
	return q
}

// fillResult writes a result into a row's energy columns, in line and offline. Where it is below resolution the value is
// null and the estimate has its own column; where the idle draw is not known yet only the total is given.
func fillResult(rec *meter.Record, r *energy.Result, method, source string) {
	rec.EnergyQuality, rec.EnergyMethod, rec.EnergySource = r.Quality.String(), method, source
	if r.Quality == energy.Unavailable {
		return
	}
	rec.GPUTimeUj, rec.GPUTokenUj = meter.Some(r.TimeUJ), meter.Some(r.TokenUJ)
	if r.HoldNS > 0 {
		rec.GPUMeanMw = meter.Some(r.MeanMW)
	}
	rec.GPUSigmaUj = meter.Some(r.SigmaUJ)
	if r.Quality == energy.BelowResolution {
		rec.GPUEstimateUj = meter.Some(r.TotalUJ)
		return
	}
	rec.GPUUj = meter.Some(r.TotalUJ)
	if r.Split {
		rec.GPUActiveUj, rec.GPUIdleUj = meter.Some(r.ActiveUJ), meter.Some(r.IdleUJ)
		rec.GPUPrefillUj, rec.GPUDecodeUj = meter.Some(r.PrefillUJ), meter.Some(r.DecodeUJ)
		rec.GPUActiveSigmaUj = meter.Some(r.ActiveSigmaUJ)
	}
}
