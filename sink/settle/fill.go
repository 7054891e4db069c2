package settle

import (
	"math"

	"wattline/meter"
	"wattline/meter/energy"
)

// method is what rows say divided their joules.
const method = "phase"

// fill writes a request's results, summed over its devices, into its row. A device that told nothing
// makes the whole unavailable: a part of the joules is not the request's joules.
func (s *Settler) fill(w *waiting) {
	rec := w.rec
	for _, i := range w.devices {
		rec.GPUDevices = append(rec.GPUDevices, s.devices[i].name)
	}
	s.fillGauges(w)
	rec.EnergyQuality = meter.EnergyUnavailable
	if len(w.results) == 0 || len(w.results) < len(w.devices) {
		if len(w.results) > 0 {
			rec.EnergyQuality = meter.EnergyPartial
		}
		return
	}
	sum := Sum(w.results)
	rec.EnergyQuality = sum.Quality.String()
	if sum.Quality == energy.Unavailable {
		return
	}
	rec.EnergyMethod, rec.EnergySource = method, s.devices[w.devices[0]].source+"/"+sum.Source
	Write(rec, &sum)
	if len(w.results) > 1 {
		rec.GPUUjByDevice = byDevice(w)
	} else if rec.GPUUj.Valid {
		rec.GPUUjByDevice = []int64{rec.GPUUj.V}
	}
}

func byDevice(w *waiting) []int64 {
	out := make([]int64, len(w.results))
	for i, r := range w.results {
		out[i] = r.TotalUJ
	}
	return out
}

func (s *Settler) fillGauges(w *waiting) {
	var mem, limit int64
	memKnown, limitKnown := true, true
	for _, i := range w.devices {
		d := s.devices[i]
		memKnown, limitKnown = memKnown && d.memB.Valid, limitKnown && d.limitMw.Valid
		mem, limit = mem+d.memB.V, limit+d.limitMw.V
	}
	if memKnown {
		w.rec.VRAMBytes = meter.Some(mem)
	}
	if limitKnown {
		w.rec.GPUPowerLimitMw = meter.Some(limit)
	}
	w.rec.GPUTempC = w.maxTemp
}

// Sum adds results of one request on several devices: joules add, so do variances (the devices' errors
// are independent), and what is not known of one is not known of all.
func Sum(results []energy.Result) energy.Result {
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

// Write puts a result into a row's energy columns. Where it is below resolution the value is null and
// the estimate has its own column; where the idle draw is not known yet only the total is given.
func Write(rec *meter.Record, r *energy.Result) {
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
