package replay

import (
	"testing"
	"time"

	"wattline/meter"
)

func TestAccuracy(t *testing.T) {
	want := Expected{FirstToken: 300 * time.Millisecond, Gap: 50 * time.Millisecond}
	run := &Run{Spans: []Span{{From: time.Unix(0, 0), To: time.Unix(10, 0), CPUSeconds: Some(0.5)}}}
	for i := range int64(5) {
		run.Exchanges = append(run.Exchanges, &Exchange{
			Status: 200, TTFTUs: meter.Some(300_100 + 100*i), GapsUs: []int64{50_200, 49_900}, Events: 3, LagUs: meter.Some(50 * i),
		})
	}
	run.Exchanges = append(run.Exchanges, &Exchange{Status: 500, Error: "failed"})
	a := AccuracyOf("closed, 1 in flight", run, want)
	near := func(what string, got Num, want float64) {
		t.Helper()
		if !got.Valid || got.V-want > 1e-9 || want-got.V > 1e-9 {
			t.Errorf("%s = %v, want %g", what, got, want)
		}
	}
	near("ttft median", a.TTFT.Median, 0.3)
	near("ttft p99", a.TTFT.P99, 0.5)
	near("itl median", a.ITL.Median, 0.05)
	near("itl p99", a.ITL.P99, 0.2)
	near("lag median", a.Schedule.Median, 0.1)
	near("CPU", a.CPUPercent, 5)
	near("CPU per event", a.CPUUsEvent, 0.5/15*1e6)
}
