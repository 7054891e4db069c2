package attribution

import (
	"wattline/meter"
	"wattline/meter/energy"
)

// method is the column energy_method: the rule that divided the joules.
const method = "phase"

// fill writes a request's results, summed over its devices, into its row. If one of several devices has no result, the row
// has no joules: a part of them would look like all. On a machine without a GPU the row's quality is that of the
// processors' joules.
func (s *settler) fill(w *waitingRow) {
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
	s.fillCPU(rec, processors, len(s.devices) == s.cfg.CPULedgers)
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
	fillResult(rec, &sum, method, first.energySource(sum.Source))
	if d := rec.Details; d != nil && rec.Stream.V == 1 && d.QueueSource == meter.SourceServer {
		// The ledger took the reply's head as the slot's start, and the row knows better: the parts' spans are not the row's.
		rec.GPUIdleHeldUj, rec.GPUIdleWaitingUj = meter.Int{}, meter.Int{}
	}
	if sum.Abandoned {
		d := meter.Details{} // the row that waits in the queue keeps its own
		if rec.Details != nil {
			d = *rec.Details
		}
		d.Abandoned = meter.Some(1)
		rec.Details = &d
	}
	for _, r := range gpus {
		if rec.GPUUj.Valid {
			rec.GPUUjByDevice = append(rec.GPUUjByDevice, r.TotalUJ)
		}
	}
}

// energySource is the column energy_source: the device's source and the channel of its joules. It is kept, so that a row
// does not allocate it.
func (d *deviceLedger) energySource(channel string) string {
	if d.answer == "" || d.channel != channel {
		d.channel, d.answer = channel, d.source+"/"+channel
	}
	return d.answer
}

// CPUSource is the source of the processors' joules, in rows of every table.
const CPUSource = "rapl"

// fillCPU writes the processors' joules; alone means that the machine has no GPU.
func (s *settler) fillCPU(rec *meter.Record, results []energy.Result, alone bool) {
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
		rec.CPUUj, rec.CPUSigmaUj = meter.Some(sum.TotalUJ), meter.Some(sum.SigmaUJ)
	}
}

func (s *settler) fillGauges(w *waitingRow) {
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

// sumResults adds one request's results of several devices. Joules add, and so do standard errors: the same model divides
// all devices' joules, from the same phases, so their errors go together. What is not known of one device is not known of
// the sum.
func sumResults(results []energy.Result) energy.Result {
	total := results[0]
	for _, r := range results[1:] {
		total.SigmaUJ += r.SigmaUJ
		total.ActiveSigmaUJ += r.ActiveSigmaUJ
		total.TotalUJ += r.TotalUJ
		total.ActiveUJ += r.ActiveUJ
		total.IdleUJ += r.IdleUJ
		total.WaitingUJ += r.WaitingUJ
		total.PrefillUJ += r.PrefillUJ
		total.DecodeUJ += r.DecodeUJ
		total.TimeUJ += r.TimeUJ
		total.TokenUJ += r.TokenUJ
		total.MeanMW += r.MeanMW
		total.Split = total.Split && r.Split
	}
	total.Quality = quality(results, &total)
	return total
}

// quality is the worst of all devices'. "Below resolution" is decided for the sum alone.
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
	if r.SlotNS > 0 {
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
		rec.GPUIdleHeldUj, rec.GPUIdleWaitingUj = meter.Some(r.IdleUJ-r.WaitingUJ), meter.Some(r.WaitingUJ)
		rec.GPUPrefillUj, rec.GPUDecodeUj = meter.Some(r.PrefillUJ), meter.Some(r.DecodeUJ)
		rec.GPUActiveSigmaUj = meter.Some(r.ActiveSigmaUJ)
	}
}
