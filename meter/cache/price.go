package cache

import (
	"math"

	"wattline/meter"
)

// Fill writes a verdict into a row, but for the joules, which come later.
func (v *Verdict) Fill(rec *meter.Record) {
	rec.CacheVerdict, rec.CacheCause, rec.CachePart = v.Verdict, v.Cause, v.Part
	rec.CacheExpectedTokens, rec.CacheLostTokens = v.Expected, v.Lost
	d := meter.Details{} // the meter shares one among rows that have the same
	if rec.Details != nil {
		d = *rec.Details
	}
	d.CacheWhy, d.CachePredecessor, d.CacheTakenBy = v.Why, v.Predecessor, v.TakenBy
	d.CacheMatchedBytes, d.CacheMatchedTokens, d.CacheOffset = v.MatchedBytes, v.MatchedTokens, v.Offset
	if v.Expected.Valid && v.Sigma > 0 {
		d.CacheExpectedSigma = meter.Some(int64(math.Ceil(v.Sigma)))
	}
	rec.Details = &d
	rec.CacheLostUs = meter.Int{}
	if n := computed(rec); v.Lost.Valid && n > 0 && rec.PrefillUs.Valid {
		rec.CacheLostUs = meter.Some(int64(float64(v.Lost.V)/float64(n)*float64(rec.PrefillUs.V) + 0.5))
	}
}

// computed is how many tokens of the prompt the server computed; 0 where that is not known.
func computed(rec *meter.Record) int64 {
	if !rec.PromptTokens.Valid || !rec.CachedTokens.Valid {
		return 0
	}
	return rec.PromptTokens.V - rec.CachedTokens.V
}

// aloneTokens is how many tokens, computed alone, may cost twice what they cost among others: a small batch uses a device badly.
const aloneTokens = 256

// Price writes the joules of a row's lost tokens, once the row's own are known: lost tokens times its joules per computed
// prompt token. The error has that of the tokens, that of the joules, that the lost tokens come before the others (a token's
// joules grow with the context before it, by at most as much as the context does), and that these would be computed alone.
func Price(rec *meter.Record) {
	rec.CacheLostUj, rec.CacheLostSigmaUj = meter.Int{}, meter.Int{}
	n := float64(computed(rec))
	if !rec.CacheLostTokens.Valid || !rec.GPUPrefillUj.Valid || n <= 0 {
		return
	}
	lost, each := float64(rec.CacheLostTokens.V), float64(rec.GPUPrefillUj.V)/n
	uj := lost * each
	rec.CacheLostUj = meter.Some(int64(uj + 0.5))
	if lost == 0 {
		rec.CacheLostSigmaUj = meter.Some(0)
		return
	}
	if !rec.GPUActiveSigmaUj.Valid || !rec.GPUActiveUj.Valid || rec.Details == nil {
		return
	}
	share := 1.0
	if rec.GPUActiveUj.V > 0 {
		share = min(1, max(0, float64(rec.GPUPrefillUj.V)/float64(rec.GPUActiveUj.V)))
	}
	ofPrefill := float64(rec.GPUActiveSigmaUj.V) * math.Sqrt(share) * lost / n
	ofTokens := float64(rec.Details.CacheExpectedSigma.V) * each
	from, to, all := float64(rec.CachedTokens.V), float64(rec.CachedTokens.V)+lost, float64(rec.PromptTokens.V)
	ofPlace := uj * max(0, 1-(from+to)/(from+all)) / math.Sqrt(12)
	ofOthers := each * min(aloneTokens, n-lost) / math.Sqrt(3)
	rec.CacheLostSigmaUj = meter.Some(int64(math.Hypot(math.Hypot(ofPrefill, ofTokens), math.Hypot(ofPlace, ofOthers)) + 0.5))
}
