package replay_test

import (
	"strings"
	"testing"

	"wattline/replay"
)

func TestGoodput(t *testing.T) {
	objectives, err := replay.ParseObjectives([]string{"ttft:1000", "inter_token_latency:10.1"})
	if err != nil {
		t.Fatal(err)
	}
	run := quick(nil) // prompts of 1k take 0.2 s, of 10k 2 s, of 100k 20 s; every third request is 2 % slower
	if g := run.Results().Goodput; g != nil {
		t.Errorf("goodput without objectives: %+v", g)
	}
	run.Objectives = objectives
	g := run.Results().Goodput
	// Four cells of 1k with three requests each, of which one takes 10.2 ms a token.
	if g == nil || g.Met != 8 || g.Of != 18 {
		t.Fatalf("%+v, want 8 of 18", g)
	}
	near(t, "share", g.Share, 8.0/18, 1e-9)
	seconds := 0.0
	for _, s := range run.Spans {
		seconds += s.To.Sub(s.From).Seconds()
	}
	near(t, "goodput", g.RequestsPerSecond, 8/seconds, 1e-9)
	for _, e := range run.Exchanges {
		if e.Cell.PromptTokens == 1000 && e.Index == 0 { // it kept the objectives
			e.Error = "the stream broke off"
			break
		}
	}
	if after := run.Results().Goodput; after.Of != 18 || after.Met != 7 {
		t.Errorf("a failed request: %+v, want 7 of 18", after)
	}
}

func TestObjectives(t *testing.T) {
	for _, c := range [][]string{{"ttft"}, {"ttft:"}, {"ttft:soon"}, {"ttft:-1"}, {"speed:3"}, {"ttft:1", "time_to_first_token:2"}} {
		if _, err := replay.ParseObjectives(c); err == nil || !strings.Contains(err.Error(), "objective") {
			t.Errorf("%v: %v", c, err)
		}
	}
	got, err := replay.ParseObjectives([]string{"e2el:790"})
	if err != nil || got[0] != (replay.Objective{Metric: "latency", MaxMs: 790}) {
		t.Errorf("%v, %v", got, err)
	}
}
