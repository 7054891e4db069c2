package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/gpu"
	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/replaytest"
)

// TestReplayWithEnergy: a run with a simulated GPU has total, attributed and idle energy, temperature, the checks of
// throttling and stalls, and a power curve.
func TestReplayWithEnergy(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t, "-c", "131072")
	tokens := llamatest.Tokens(t, up, 500*time.Millisecond, 400) // four of them make a curve of 50 points
	w := serve(t, up.URL(), "--gpu", "sim")
	w.awaitQuiet(t, 3)
	dir := filepath.Join(t.TempDir(), "run")
	got := wattline(t, "replay", "--endpoint", w.url, "--prompt-sizes", "300", "--output-tokens", fmt.Sprint(tokens), "--requests", "4", "--out", dir)
	if got.code != exitOK && got.code != exitInvalid { // a server without CPU time looks like a stall
		t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	a, err := archive.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, d := a.Results.Energy, a.Results.Device
	if !e.GPUAttributedWh.Valid || !e.TokensPerJoule.Valid || !e.MeanTokensPerWatt.Valid || e.GPUAttributedWh.V <= 0 {
		t.Errorf("energy %+v", e)
	}
	// The sampler's buffer holds 2.4 s. If the machine paused for longer, some seconds have no energy and the curve
	// has a gap; the run must report that.
	gaps := 0
	for _, s := range a.Run.Power.Samples {
		if !s.EnergyUj.Valid {
			gaps++
		}
	}
	switch {
	case len(a.Run.Power.Samples) < 4 || gaps > len(a.Run.Power.Samples)/2:
		t.Errorf("%d of %d seconds have no energy", gaps, len(a.Run.Power.Samples))
	case gaps == 0 && !e.GPUEnergyWh.Valid:
		t.Errorf("every second has its energy, and the run has none: %+v", e)
	}
	if ratio := e.GPUAttributedWh.V / e.GPUEnergyWh.V; e.GPUEnergyWh.Valid && (ratio < 0.3 || ratio > 1.5) {
		t.Errorf("attributed are %g of the counter's advance", ratio)
	}
	if !d.IdleBeforeW.Valid || !d.MeanPowerW.Valid || d.MeanPowerW.V <= d.IdleBeforeW.V || !d.TempMaxC.Valid || len(d.Devices) != 1 {
		t.Errorf("device %+v", d)
	}
	if ram := a.Results.Memory.RAMBytes; !ram.Valid || ram.V < 5e6 || ram.V > 5e9 {
		t.Errorf("the server's memory is %+v", ram)
	}
	curve := len(a.Run.Power.Curves) == 1 && len(a.Run.Power.Curves[0].MilliWatts) >= 50
	if gaps == 0 && !curve || len(a.Manifest.Devices) != 1 {
		t.Errorf("%d curves, devices %+v", len(a.Run.Power.Curves), a.Manifest.Devices)
	}
	for _, name := range []string{"throttling", "stalls", "other GPU users"} {
		state := checkState(a, name)
		if gaps == 0 && state == replay.Skipped || name == "stalls" && len(a.Run.Power.Curves) == 0 && state != replay.Skipped {
			t.Errorf("%s: %v, with %d seconds without energy", name, state, gaps)
		}
	}
}

// checkState returns the state of a run's check, or "" if there is none of that name.
func checkState(a *archive.Archive, name string) replay.State {
	for _, c := range a.Results.Checks {
		if c.Name == name {
			return c.State
		}
	}
	return ""
}

// TestEnergyEndpoint: /api/energy has empty lists without power sources, and an error that explains invalid times.
func TestEnergyEndpoint(t *testing.T) {
	t.Parallel()
	w := serve(t, llamatest.Start(t).URL())
	ask := func(query string) (status int, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.admin+"/api/energy"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	status, body := ask("")
	var lists map[string][]any
	if err := json.Unmarshal([]byte(body), &lists); err != nil || status != 200 {
		t.Fatalf("%d, %v: %s", status, err, body)
	}
	for _, key := range []string{"devices", "power", "ledger", "curves"} {
		if l, ok := lists[key]; !ok || l == nil {
			t.Errorf("no list %q in %s", key, body)
		}
	}
	for query, says := range map[string]string{
		"?from=yesterday": "times like",
		"?from=" + url.QueryEscape("2026-02-07T10:00:00Z") + "&to=" + url.QueryEscape("2026-02-08T10:00:00Z"): "by at most 6h",
		"?from=" + url.QueryEscape("2026-02-07T10:00:00Z") + "&to=" + url.QueryEscape("2026-02-07T09:00:00Z"): "before to",
	} {
		if status, body := ask(query); status != 400 || !strings.Contains(body, says) {
			t.Errorf("%s: %d, %s", query, status, body)
		}
	}
}

// TestThrottleReasons: the check of a run knows the sampler's throttle reasons. Configured limits pass, heat fails.
func TestThrottleReasons(t *testing.T) {
	for reason, want := range map[gpu.Throttle]replay.State{
		gpu.ThrottlePowerCap: replay.Passed, gpu.ThrottleAppClocks: replay.Passed, gpu.ThrottleSyncBoost: replay.Passed, gpu.ThrottleDisplayClocks: replay.Passed,
		gpu.ThrottleSwThermal: replay.Failed, gpu.ThrottleHwThermal: replay.Failed, gpu.ThrottleHwSlowdown: replay.Failed, gpu.ThrottleHwPowerBrake: replay.Failed,
	} {
		run := replaytest.Run(replay.Quick())
		for i := range run.Power.Samples {
			run.Power.Samples[i].Throttle, run.Power.Samples[i].ThrottledUs = reason.Strings(), meter.Some(1e6)
		}
		for _, c := range run.Check() {
			if c.Name == "throttling" && c.State != want {
				t.Errorf("%v: %s (%s)", reason.Strings(), c.State, c.Detail)
			}
		}
	}
}
