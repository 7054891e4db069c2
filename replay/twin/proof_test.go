package twin

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// TestProofIsOfItsRun: a proof that was copied into another run's folder, or is of an earlier run there, proves nothing.
func TestProofIsOfItsRun(t *testing.T) {
	dir := t.TempDir()
	run := &replay.Run{StartedAt: time.Now(), Plan: &replay.Plan{Hash: "abc", Recording: &replay.Recording{Salt: 1 << 63}}}
	if p, err := ReadProof(dir, run); p != nil || err != nil {
		t.Fatalf("no proof: %v, %v", p, err)
	}
	if err := (&Proof{Trace: "t", Run: RunOf(run), Passed: true}).Report(io.Discard, dir); err != nil {
		t.Fatal(err)
	}
	if p, err := ReadProof(dir, run); err != nil || !p.Passed {
		t.Fatalf("its own: %+v, %v", p, err)
	}
	for name, change := range map[string]func(*replay.Run){
		"another run":       func(r *replay.Run) { r.Plan.Recording.Salt++ },
		"another time":      func(r *replay.Run) { r.StartedAt = r.StartedAt.Add(1) },
		"another selection": func(r *replay.Run) { r.Plan.Hash = "def" },
	} {
		recording := *run.Plan.Recording
		other := &replay.Run{StartedAt: run.StartedAt, Plan: &replay.Plan{Hash: run.Plan.Hash, Recording: &recording}}
		change(other)
		if p, err := ReadProof(dir, other); err != nil || p.Passed || len(p.Why) != 1 || !strings.Contains(p.Why[0], "the proof of another run") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// TestFacts: the types that llama.cpp names are facts, and no other words are.
func TestFacts(t *testing.T) {
	for name, want := range map[string]bool{
		"Q4_K - Medium": true, "Q2_K - Small": true, "Q8_0": true, "BF16": true, "all F32": true, "MXFP4 MoE": true, "IQ2_XXS - 2.0625 bpw": true, "IQ3_S mix - 3.66 bpw": true,
		"TQ1_0 - 1.69 bpw ternary": true, "Q6_K (guessed)": true, "Q4_K_M": true, "IQ4_NL - 4.5 bpw": true, "none": false, "ACME_Q4": false, "Q4_K - Alice": false, "unknown, may not work": false,
	} {
		if _, ok := Facts("", name, meter.Int{}, meter.Int{}, nil)["quantisation"]; ok != want {
			t.Errorf("%s is a fact: %v", name, ok)
		}
	}
}

// TestDifferences: a flag that one side alone has is a difference where both sides' flags are known; what is not known is said.
func TestDifferences(t *testing.T) {
	facts := func(settings map[string]string) map[string]string {
		return Facts("b11669", "Q4_K - Medium", meter.Some(4096), meter.Some(4), settings)
	}
	quant := facts(map[string]string{})
	quant["quantisation"] = "Q5_K - Medium"
	for _, c := range []struct {
		was, is         map[string]string
		differ, unknown []string
	}{
		{facts(map[string]string{"--flash-attn": "on"}), facts(map[string]string{"--flash-attn": "on"}), nil, nil},
		{facts(map[string]string{"--kv-unified": ""}), facts(map[string]string{}), []string{"--kv-unified was set and is not set"}, nil},
		{facts(map[string]string{}), facts(map[string]string{"--batch-size": "64"}), []string{"--batch-size was not set and is 64"}, nil},
		{facts(map[string]string{"--batch-size": "64"}), facts(nil), nil, []string{"flags"}},
		{facts(map[string]string{}), quant, []string{"quantisation was Q4_K - Medium and is Q5_K - Medium"}, nil},
		{nil, facts(map[string]string{}), nil, []string{"build", "context_tokens", "flags", "quantisation", "slots"}},
	} {
		if differ, unknown := differences(c.was, c.is); !slices.Equal(differ, c.differ) || !slices.Equal(unknown, c.unknown) {
			t.Errorf("%v and %v differ in %q, unknown are %q", c.was, c.is, differ, unknown)
		}
	}
	tr, rows := twinRun(200, 1, 1, 1, 0.03, 1)
	if p := Prove(tr, rows, nil); len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "flags") {
		t.Errorf("nothing is known of the server: %q", p.Notes)
	}
}

// TestFailedAndMissing: a failed request measures nothing, one that was cancelled is compared with one that was, and a figure that
// many requests lack is not one of the run.
func TestFailedAndMissing(t *testing.T) {
	tr, rows := twinRun(200, 1, 1, 1, 0.03, 1)
	_, other := twinRun(200, 1, 1, 1, 0.03, 2)
	for i := range 4 {
		tr.Records[i].CancelUs = meter.Some(1000)
		rows[i].Outcome, other[i].Outcome = meter.UpstreamError, meter.UpstreamError
		rows[8+i].Outcome, other[8+i].Outcome = meter.Cancelled, meter.Cancelled
	}
	if p := PriceOf("abc", rows, other); p.Requests != 196 {
		t.Errorf("%d of 200 requests are priced, 4 failed twice", p.Requests)
	}
	if p := Prove(tr, rows, nil); p.Cached.Requests != 192 || len(p.Why) == 0 || !strings.Contains(p.Why[0], "8 of 200 requests have no row") {
		t.Errorf("%d are compared: %q", p.Cached.Requests, p.Why)
	}
	for i := range rows {
		if i%10 > 0 {
			rows[i].GPUUj = meter.Int{}
		}
	}
	const why = "joules of all requests: not measured: 177 of 196 requests do not have it on both sides"
	p := PriceOf("abc", rows, other)
	if lines := strings.Join(p.Lines(true), "\n"); !strings.Contains(lines, why) {
		t.Errorf("no %q in %s", why, lines)
	}
	for i := range rows {
		rows[i].CachedTokens = meter.Some(0)
	}
	if line := PriceOf("abc", rows, other).Lines(true)[0]; !strings.Contains(line, "it is 0 tokens on one side and") {
		t.Errorf("nothing cached on one side: %s", line)
	}
}
