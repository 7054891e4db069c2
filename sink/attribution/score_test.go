package attribution

import (
	"math"
	"testing"
)

// Agents on an H200, a fifth of whose requests were cut off, as serve recorded them with its looks at the server's slots,
// against the server's own log of when each task ran: what abandoned requests cost is theirs, not their neighbours'.
func TestAbandonedOnRealCard(t *testing.T) {
	all, err := Score("../../gpu/testdata/h200-agents2", "", "")
	if err != nil {
		t.Fatal(err)
	}
	phase := all[0].Scores[0]
	if phase.RMS > 0.20 || phase.Coverage < 0.88 || math.Abs(phase.Conservation-1) > 0.04 {
		t.Errorf("all: %+v", phase)
	}
	for kind, limit := range map[string]struct{ rms, coverage float64 }{
		"cut_unstreamed": {0.12, 1}, "cut_queued": {0.45, 0.7}, "cut_prefill": {0.45, 0.6}, "plain": {0.14, 0.91},
	} {
		s := all[0].Kinds[kind]
		t.Logf("%s: rms %.1f %%, worst %+.1f %%, coverage %.1f %%", kind, 100*s.RMS, 100*s.Worst, 100*s.Coverage)
		if s.RMS > limit.rms || s.Coverage < limit.coverage {
			t.Errorf("%s: rms %.1f %%, coverage %.1f %%", kind, 100*s.RMS, 100*s.Coverage)
		}
	}
}
