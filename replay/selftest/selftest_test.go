package selftest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/replay"
)

func TestFloor(t *testing.T) {
	told := Told{FirstToken: 300 * time.Millisecond, Gap: 50 * time.Millisecond}
	run := &replay.Run{Spans: []replay.Span{{From: time.Unix(0, 0), To: time.Unix(10, 0), CPUSeconds: replay.Some(0.5)}}}
	for i := range int64(5) {
		run.Exchanges = append(run.Exchanges, &replay.Exchange{
			Status: 200, TTFTUs: meter.Some(300_100 + 100*i), GapsUs: []int64{50_200, 49_900}, Events: 3, LagUs: meter.Some(50 * i),
		})
	}
	run.Exchanges = append(run.Exchanges, &replay.Exchange{Status: 500, Error: "failed"})
	f := FloorOf("closed, 1 in flight", run, told)
	near := func(what string, got replay.Num, want float64) {
		t.Helper()
		if !got.Valid || got.V-want > 1e-9 || want-got.V > 1e-9 {
			t.Errorf("%s = %v, want %g", what, got, want)
		}
	}
	near("ttft median", f.TTFT.Median, 0.3)
	near("ttft p99", f.TTFT.P99, 0.5)
	near("itl median", f.ITL.Median, 0.05)
	near("itl p99", f.ITL.P99, 0.2)
	near("lag median", f.Schedule.Median, 0.1)
	near("CPU", f.CPUPercent, 5)
	near("CPU per event", f.CPUUsEvent, 0.5/15*1e6)
	var b bytes.Buffer
	if err := Print(&b, []Floor{f, {Load: "open"}}, told); err != nil || !strings.Contains(b.String(), "0.3") || !strings.Contains(b.String(), "300ms") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
