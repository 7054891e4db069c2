package attribution

import (
	"math"
	"testing"
)

// Agents on an H200, a fifth of whose requests were cut off, as serve recorded them with its looks at the server's slots,
// against the server's own log of when each task ran: what abandoned requests cost is theirs, not their neighbours'.
func TestAbandonedOnRealCard(t *testing.T) {
	type limit struct{ rms, coverage float64 }
	for name, limits := range map[string]map[string]limit{
		"h200-agents2": {"": {0.12, 0.91}, "plain": {0.08, 0.93}, "cut_decode": {0.05, 0.8}, "messages": {0.07, 0.95},
			"cut_unstreamed": {0.08, 0.8}, "cut_queued": {0.36, 0.9}, "cut_prefill": {0.25, 0.8}},
		"h200-agents3": {"": {0.35, 0.95}, "plain": {0.04, 0.98}, "cut_unstreamed": {0.03, 1}, "cut_prefill": {0.31, 0.8}, "messages": {0.095, 0.78},
			"cut_decode": {0.03, 1}, "cut_queued": {1.35, 0.8}},
		"h200-agents4": {"": {0.16, 0.95}, "plain": {0.028, 0.97}, "cut_unstreamed": {0.03, 0.92}, "cut_prefill": {0.02, 1}, "messages": {0.06, 0.82},
			"cut_decode": {0.03, 1}, "cut_queued": {0.67, 0.83}},
	} {
		all, err := Score("../../gpu/testdata/"+name, "", "")
		if err != nil {
			t.Fatal(err)
		}
		all[0].Kinds[""] = all[0].Scores[0]
		if c := all[0].Kinds[""].Conservation; math.Abs(c-1) > 0.03 {
			t.Errorf("%s: conservation %.3f", name, c)
		}
		for kind, limit := range limits {
			if s := all[0].Kinds[kind]; s.RMS > limit.rms || s.Coverage < limit.coverage {
				t.Errorf("%s %s: rms %.1f %%, coverage %.1f %%", name, kind, 100*s.RMS, 100*s.Coverage)
			}
		}
	}
}
