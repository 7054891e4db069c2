package term

import (
	"database/sql"
	"strings"
	"testing"

	"wattline/meter/cache"
	"wattline/sink/queries"
)

// TestUnknownSigma: an error that is not known is not printed as 0.
func TestUnknownSigma(t *testing.T) {
	known := sql.Null[float64]{V: 3, Valid: true}
	for want, sigma := range map[string]sql.Null[float64]{"3 ± - J": {}, "3 ± 0 J": {Valid: true}} {
		var b strings.Builder
		CacheCulprits(&b, []queries.Culprit{{Cause: cache.SlotTaken, Joules: known, Sigma: sigma}}, queries.CacheTotals{Verdicts: map[string]int64{cache.Server: 1}})
		if got := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}
