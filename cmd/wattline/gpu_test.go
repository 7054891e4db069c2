package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter/energy"
	"wattline/sink/attribution"
)

// runGPU runs the command in a synctest bubble, at most for span, and returns what it printed.
func runGPU(t *testing.T, c gpuCmd, span time.Duration) (out, problems string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		if err := c.Run(&app{ctx: ctx, stdout: &stdout, stderr: &stderr, log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Error(err)
		}
		out, problems = stdout.String(), stderr.String()
	})
	return out, problems
}

// TestGPUPrints: the simulated GPU is printed with its channels, their learnt properties, and that it is simulated.
func TestGPUPrints(t *testing.T) {
	out, _ := runGPU(t, gpuCmd{GPU: "sim", Look: 25 * time.Second}, time.Minute)
	for _, want := range []string{
		"SIMULATED", "SIM-0", "energy counter     every 100 ms", "power samples      every 20 ms", "119 deep", "power profile",
		"agreement          the energy counter and ring power differ by", "last second", "W instant", "limit 700 W", "of one core",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

// TestGPULearnt: coefficients and idle draw that serve has stored are printed, for the devices of this machine only.
func TestGPULearnt(t *testing.T) {
	dir := t.TempDir()
	m, err := attribution.OpenMemory(filepath.Join(dir, attribution.MemoryFile))
	if err != nil {
		t.Fatal(err)
	}
	l := attribution.Learnt{
		Device: "SIM-0", Model: "glm", At: time.Now(), Baseline: energy.Baseline{BaseMW: 119_900, SlopeMW: 770, RefC: 38, SigmaMW: 400, Windows: 90},
		Coefficients: energy.Coefficients{PrefillUJ: 34_000, PositionUJ: 5_000, StepUJ: 440_000, TokenUJ: 320_000, ContextUJ: 37_000, Rho: 0.021, Decode: 50, Prefill: 7},
	}
	m.Keep(l)
	l.Device = "GPU-of-another-machine"
	m.Keep(l)
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	c := gpuCmd{GPU: "sim", Look: 2 * time.Second, Store: filepath.Join(dir, "wattline.db")}
	out, _ := runGPU(t, c, time.Minute)
	for _, want := range []string{"glm", "a prompt token 0.034 J, plus 0.005 J", "a decode step 0.44 J, a token 0.32 J", "adjacent slots", "error 2.1 %", "loaded and idle 119.9 W at 38 C, +0.77 W/C"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	c.JSON = true
	out, _ = runGPU(t, c, time.Minute)
	var r struct{ Learnt []attribution.Learnt }
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Learnt) != 1 || r.Learnt[0].Coefficients.StepUJ != 440_000 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestGPUJSON: the report as JSON, with null for unknown values.
func TestGPUJSON(t *testing.T) {
	out, _ := runGPU(t, gpuCmd{GPU: "sim", Look: 5 * time.Second, JSON: true}, time.Minute)
	var r struct {
		Devices []struct {
			Info struct {
				UUID      string
				Simulated bool
			}
			Condition string
			Status    map[string]*int64
			Row       struct {
				EnergyUJ *int64 `json:"energy_uj"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	d := r.Devices[0]
	if d.Info.UUID != "SIM-0" || !d.Info.Simulated || d.Condition != "live" || d.Status["fan_pct"] != nil || d.Status["limit_mw"] == nil {
		t.Errorf("%+v", d)
	}
	if e := d.Row.EnergyUJ; e == nil || *e < 100e6 || *e > 140e6 {
		t.Errorf("an idle second has the energy %v", e)
	}
}

// TestGPUWatch: one line per second, also as JSON.
func TestGPUWatch(t *testing.T) {
	out, _ := runGPU(t, gpuCmd{GPU: "sim", Watch: true}, 30*time.Second)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 25 || len(lines) > 31 || !strings.HasPrefix(lines[0], "time") || !regexp.MustCompile(`sim 0 +11[78]\.\d .*simulated`).MatchString(lines[10]) {
		t.Errorf("%d lines:\n%s", len(lines), out)
	}
	out, _ = runGPU(t, gpuCmd{GPU: "sim", Watch: true, JSON: true}, 10*time.Second)
	last := int64(0)
	n := 0
	for line := range strings.Lines(out) {
		var r struct {
			From   int64  `json:"from_ns"`
			MeanMw *int64 `json:"mean_mw"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if last != 0 && r.From != last+1e9 {
			t.Errorf("a row at %d after one at %d", r.From, last)
		}
		if last, n = r.From, n+1; r.MeanMw == nil && n > 2 {
			t.Errorf("no power in %q", line)
		}
	}
	if n < 6 {
		t.Errorf("%d rows in ten seconds", n)
	}
}

// TestGPUNone: without devices the command fails and says what to do.
func TestGPUNone(t *testing.T) {
	c := gpuCmd{GPU: "none"}
	err := c.Run(&app{ctx: t.Context(), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "--gpu sim") {
		t.Errorf("error %v", err)
	}
}
