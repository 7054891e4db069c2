package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/deploy/debian"
	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/sink/attribution"
)

// TestRestartKeepsCoefficients: coefficients and idle draw are stored beside the store. The next wattline separates active
// from idle joules from its first request on, and records its initial state, so that attribute gets the same joules.
// `wattline gpu` prints them.
func TestRestartKeepsCoefficients(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t, "-c", "131072")
	upstream, tokens := up.URL(), llamatest.Tokens(t, up, 300*time.Millisecond, 600) // long enough to learn from
	file := filepath.Join(t.TempDir(), "wattline.db")
	stream := map[string]any{
		"messages": []any{map[string]any{"role": "user", "content": "ba ce di fo gu"}}, "stream": true, "max_tokens": tokens, "ignore_eos": true,
	}
	w := serve(t, upstream, "--gpu", "sim", "--store", file)
	w.awaitQuiet(t, 3)
	for range 3 {
		if r := w.post(t.Context(), "/v1/chat/completions", stream); r.err != nil || r.status != 200 {
			t.Fatalf("status %d, %v", r.status, r.err)
		}
	}
	w.stop(t)
	if got := answer(t, "gpu", "--gpu", "sim", "--look", "1s", "--store", file); !strings.Contains(got, "a decode step ") || !strings.Contains(got, "loaded and idle 11") {
		t.Errorf("wattline gpu does not show what was learnt:\n%s", got)
	}

	dir := filepath.Join(t.TempDir(), "recording")
	before := strings.Count(answer(t, "query", "--format", "csv", "--store", file, "SELECT at FROM power WHERE energy_uj IS NOT NULL"), "\n") - 1
	w = serve(t, upstream, "--gpu", "sim", "--store", file, "--record", dir)
	w.awaitQuiet(t, before+1) // a request from before the first reading has no joules
	r := w.post(t.Context(), "/v1/chat/completions", stream)
	if r.err != nil || r.status != 200 {
		t.Fatalf("status %d, %v", r.status, r.err)
	}
	w.stop(t)
	rec := w.stored(t, 100)[r.id]
	if rec == nil || !rec.GPUActiveUj.Valid || !rec.GPUIdleUj.Valid {
		t.Fatalf("the first request after a restart has the row %+v", rec)
	}
	sameJoules(t, r.id, rec, attributedRows(t, dir)[r.id])
	recorded, err := attribution.ReadRecording(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if o := recorded.Opening; !o.Simulated || o.Device != "SIM-0" || o.Coefficients[0].Decode == 0 || o.Config.Baseline.Windows == 0 {
		t.Errorf("%+v", o)
	}
}

// TestServeCoalitions sends the traffic of meter/energy/hardware for a pair of requests to the simulated GPU. serve's and
// the client's files make a recording that attribute compares with measured shares. The size of the error means nothing
// here.
func TestServeCoalitions(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t, "-c", "131072")
	tokens := llamatest.Tokens(t, up, 700*time.Millisecond, 300) // of W, longer than the 60 ms until slots are polled
	dir := pairThrough(t, up.URL(), tokens)
	rec, err := attribution.ReadRecording(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	tagged, placed := 0, 0
	for _, q := range rec.Traffic.Requests {
		if q.Tag == "WX/0" && q.Who != "" && q.Timings != nil {
			tagged++
		}
		if q.Slot != nil {
			placed++
		}
	}
	if tagged != 2 || placed == 0 {
		t.Errorf("of %d recorded requests %d are W and X together, %d have a slot", len(rec.Traffic.Requests), tagged, placed)
	}
	for _, args := range [][]string{{}, {"--requests", "client.jsonl"}} {
		cmd := command(t, append([]string{"attribute", dir, "--coalitions"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, _ := cmd.Output() // exit code 3, because the shares differ
		if got := string(out); strings.Count(got, "\nWX ") != 2 || !strings.Contains(got, "rms: phase ") {
			t.Errorf("attribute %v prints\n%s\n%s", args, got, stderr.String())
		}
	}
}

// pairThrough sends the pair's traffic through a wattline and returns the folder of its recording.
func pairThrough(t *testing.T, upstream string, tokens int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "recording")
	w := serve(t, upstream, "--gpu", "sim", "--slots", "on", "--record", dir)
	_, port, _ := strings.Cut(strings.TrimPrefix(w.url, "http://"), ":")
	traffic := exec.CommandContext(t.Context(), debian.Need(t, "python3"), filepath.Join("..", "..", "meter", "energy", "hardware", "traffic.py"), dir, port, "coalitions", "pair", "1")
	traffic.Env = append(os.Environ(), fmt.Sprintf("TRAFFIC_SCALE=%g", float64(tokens)/300))
	if out, err := traffic.CombinedOutput(); err != nil {
		t.Fatalf("traffic.py: %v\n%s", err, out)
	}
	w.stop(t)
	return dir
}

// TestRequestedSlot: a request with id_slot has that slot in the recording from its start.
func TestRequestedSlot(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "recording")
	w := serve(t, llamatest.Start(t, "-c", "32768").URL(), "--gpu", "sim", "--slots", "off", "--record", dir)
	if r := w.post(t.Context(), "/completion", map[string]any{"prompt": "ba ce di", "n_predict": 20, "stream": true, "id_slot": 3}); r.err != nil || r.status != 200 {
		t.Fatalf("status %d, %v", r.status, r.err)
	}
	if r := w.post(t.Context(), "/completion", map[string]any{"prompt": "ba ce di", "n_predict": 20, "id_slot": 2}); r.err != nil || r.status != 200 {
		t.Fatalf("status %d, %v", r.status, r.err)
	}
	w.stop(t)
	rec, err := attribution.ReadRecording(dir, "")
	if err != nil || len(rec.Traffic.Requests) != 2 {
		t.Fatalf("%+v, %v", rec, err)
	}
	for i, want := range []int64{3, 2} {
		if q := rec.Traffic.Requests[i]; q.Slot == nil || int64(*q.Slot) != want {
			t.Errorf("request %d: %+v, want slot %v", i, q, meter.Some(want))
		}
	}
}
