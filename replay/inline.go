package replay

import "wattline/meter"

// Figures computed from wattline's row of a request. The formulas are those of the view efficiency
// (meter/DEFINITIONS.md), repeated here because a report needs no store.

// HeldUs is E - S: how long the request held its slot.
func HeldUs(r *meter.Record) Num {
	for _, v := range []meter.Int{r.DurationUs, r.TTFTUs, r.UpstreamTTFTUs, r.BeforeSlotUs()} {
		if !v.Valid {
			return Num{}
		}
	}
	return Some(float64(r.DurationUs.V - (r.TTFTUs.V - r.UpstreamTTFTUs.V) - r.BeforeSlotUs().V))
}

// GPUJoules is the request's energy: active and idle share.
func GPUJoules(r *meter.Record) Num { return num(r.GPUUj).Times(1e-6) }

// SlotJoules is what of it belongs to the time in which the request held its slot: all but the idle draw while it waited.
// The ratios to tokens are of these joules, so that a request that waited compares with one that did not.
func SlotJoules(r *meter.Record) Num {
	if !r.GPUUj.Valid {
		return Num{}
	}
	return num(r.SlotUj()).Times(1e-6)
}

// TokensPerJoule is output tokens ÷ joules of the slot (= tokens/s/W).
func TokensPerJoule(r *meter.Record) Num { return Ratio(num(r.OutputTokens), SlotJoules(r)) }

// TokensPerWatt is the guide's figure: output tokens ÷ mean attributed power, which is the slot's joules ÷ (E - S). Where
// the idle draw while the request waited is not known apart, both are of the whole request.
func TokensPerWatt(r *meter.Record) Num {
	span := HeldUs(r)
	if !r.GPUIdleWaitingUj.Valid {
		span = num(r.DurationUs)
	}
	return Ratio(num(r.OutputTokens), Ratio(SlotJoules(r), span.Times(1e-6)))
}

// PrefillJoulesPerToken is prefill joules ÷ prompt tokens that were not reused.
func PrefillJoulesPerToken(r *meter.Record) Num {
	if !r.PromptTokens.Valid {
		return Num{}
	}
	return Ratio(num(r.GPUPrefillUj).Times(1e-6), Some(float64(r.PromptTokens.V-r.CachedTokens.V)))
}

// DecodeJoulesPerToken is decode joules ÷ output tokens.
func DecodeJoulesPerToken(r *meter.Record) Num {
	return Ratio(num(r.GPUDecodeUj).Times(1e-6), num(r.OutputTokens))
}

// PrefillTPS is the server's prompt_n ÷ prompt_ms, where no other request was in flight.
func (e *Exchange) PrefillTPS(concurrency int) Num {
	if e.InLine != nil && e.InLine.MeanConcurrency.Valid {
		if e.InLine.MeanConcurrency.V > 1000 {
			return Num{}
		}
	} else if concurrency != 1 { // unknown; a closed loop of one is alone by construction
		return Num{}
	}
	return Ratio(num(e.PromptN), e.PromptMs.Times(1e-3))
}

// inLine is a number of the row, absent where there is none.
func (e *Exchange) inLine(f func(*meter.Record) Num) Num {
	if e.InLine == nil {
		return Num{}
	}
	return f(e.InLine)
}
