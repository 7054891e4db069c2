package replay_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wattline/deploy/debian"
	"wattline/meter"
	"wattline/replay"
	"wattline/replay/replaytest"
)

func quick(change func(*replay.Spec)) *replay.Run {
	s := replay.Quick()
	if change != nil {
		change(&s)
	}
	return replaytest.Run(s)
}

func near(t *testing.T, what string, got replay.Num, want, tolerance float64) {
	t.Helper()
	if !got.Valid || math.Abs(got.V-want) > tolerance*math.Abs(want) {
		t.Errorf("%s = %+v, want %g", what, got, want)
	}
}

func TestResults(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:1] }) // coding 1k x 256, three requests, one 2 % slower
	r := run.Results()
	const slow = (1 + 1 + 1.02) / 3
	near(t, "ttft", r.Latency.TimeToFirstTokenMs, 200*slow+4+0.15+0.2, 1e-3)
	near(t, "generation time", r.Latency.GenerationTimeMs, (200+255*10)*slow+4.35, 1e-3)
	near(t, "decode tokens/s", r.Throughput.DecodeTokensPerSecond, (100+100+100/1.02)/3, 1e-3)
	near(t, "prefill tokens/s", r.Throughput.PrefillTokensPerSecond, 5000*(1+1+1/1.02)/3, 1e-3)
	near(t, "tokens/s", r.Throughput.MeanTokensPerSecond, 256/2.754*(1+1+1/1.02)/3, 2e-3)
	near(t, "system tokens/s", r.Throughput.SystemTokensPerSecond, 256/(2.754*slow), 2e-3)
	// 470 W above rest for 0.2 s, 95 W for 2.55 s, 120 W for all of it.
	joules := (0.2*470 + 2.55*95 + 2.75*120) * slow
	near(t, "J/token", r.Energy.JoulesPerToken, joules/256, 2e-3)
	near(t, "tokens/J", r.Energy.TokensPerJoule, 256/joules, 2e-3)
	near(t, "attributed Wh", r.Energy.GPUAttributedWh, 3*joules/3600, 2e-3)
	near(t, "CPU Wh", r.Energy.CPUEnergyWh, 3*2.75*slow*20/3600, 2e-3)
	near(t, "tokens/W", r.Energy.MeanTokensPerWatt, 256/(joules/2.75)*slow, 5e-3)
	near(t, "prefill J/token", r.Energy.PrefillJoulesPerToken, 0.2*470*slow/1000, 2e-3)
	near(t, "decode J/token", r.Energy.DecodeJoulesPerToken, 2.55*95*slow/256, 2e-3)
	near(t, "VRAM", r.Memory.VRAMBytes, replaytest.VRAMBytes, 0)
	near(t, "rest before", r.Device.IdleBeforeW, replaytest.IdleW, 1e-9)
	w := r.Cells[0].Waterfall
	for name, v := range map[string][2]float64{
		"network": {w.Network.V, 0.2}, "upload": {w.Upload.V, 0}, "proxy": {w.Proxy.V, 0.15}, "queue": {w.Queue.V, 4}, "prefill": {w.Prefill.V, 200},
		"server": {w.Server.V, 0}, "decode": {w.Decode.V, 2550},
	} {
		if math.Abs(v[0]-v[1]) > 1e-9 {
			t.Errorf("waterfall: %s is %g ms, want %g", name, v[0], v[1])
		}
	}
	if !r.Valid || r.PromptsTested != 3 || r.Errors != 0 || r.InLine.Joined != 3 {
		t.Errorf("valid %v, %d tested, %d errors, %d joined", r.Valid, r.PromptsTested, r.Errors, r.InLine.Joined)
	}
	for _, c := range r.Checks {
		if c.State == replay.Failed {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
}

// TestRatiosCountWhatHasBoth: a request whose joules are not split counts in neither part of a ratio of the split.
func TestRatiosCountWhatHasBoth(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:1] })
	run.Exchanges[0].InLine.GPUDecodeUj, run.Exchanges[0].InLine.GPUPrefillUj = meter.Int{}, meter.Int{}
	r := run.Results()
	near(t, "decode J/token", r.Energy.DecodeJoulesPerToken, 2.55*95*(1+1.02)/2/256, 1e-2)
	near(t, "prefill J/token", r.Energy.PrefillJoulesPerToken, 0.2*470*(1+1.02)/2/1000, 1e-2)
}

// The card's own joules are the counter's, while cells ran and in the tail behind them.
func TestGrossEnergy(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:2] })
	want := 0.0 // from the 20 ms curve, which the samples do not share their weighting with
	c := run.Power.Curves[0]
	for i, mw := range c.MilliWatts {
		at := c.From.Add(time.Duration(i) * 20 * time.Millisecond)
		for k, s := range run.Spans {
			s.To = s.To.Add(500 * time.Millisecond)
			if k > 0 && s.From.Before(run.Spans[k-1].To.Add(500*time.Millisecond)) {
				s.From = run.Spans[k-1].To.Add(500 * time.Millisecond)
			}
			if !at.Before(s.From) && at.Before(s.To) {
				want += float64(mw) / 1e3 * 0.02
			}
		}
	}
	near(t, "gross Wh", run.Results().Energy.GPUEnergyWh, want/3600, 0.003)
	run.Power.Samples = run.Power.Samples[:len(run.Power.Samples)/2] // a hole is not guessed over
	if got := run.Results().Energy.GPUEnergyWh; got.Valid {
		t.Errorf("half of the samples are missing, and the energy is %v", got)
	}
}

// A run of one second lies across two seconds of the counter, half of them idle, and its last joules come behind its last
// reply. What was attributed is still part of what the card drew, with a curve and without one.
func TestShortRunsEnergy(t *testing.T) {
	for _, curve := range []bool{true, false} {
		run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:1]; s.Requests = 1 })
		e := run.Exchanges[0]
		move := run.Power.Samples[0].At.Add(5500 * time.Millisecond).Sub(e.StartedAt)
		e.StartedAt, run.Spans[0].From = e.StartedAt.Add(move), run.Spans[0].From.Add(move)
		run.Spans[0].To = run.Spans[0].From.Add(time.Second)
		const idle, busy = 120_000, 520_000
		c := &run.Power.Curves[0]
		for i := range c.MilliWatts {
			at := c.From.Add(time.Duration(i) * 20 * time.Millisecond)
			c.MilliWatts[i] = idle
			if !at.Before(run.Spans[0].From) && at.Before(run.Spans[0].To.Add(100*time.Millisecond)) {
				c.MilliWatts[i] = busy
			}
		}
		for i := range run.Power.Samples {
			total := int64(0)
			for _, mw := range c.MilliWatts[i*50 : (i+1)*50] {
				total += mw * 20 / 1000
			}
			run.Power.Samples[i].EnergyUj = meter.Some(total * 1e3)
		}
		if !curve {
			run.Power.Curves = nil
		}
		e.InLine.GPUUj, e.InLine.GPUSigmaUj = meter.Some(1_100*busy), meter.Some(0)
		r := run.Results()
		if r.Energy.GPUEnergyWh.V < r.Energy.GPUAttributedWh.V || stateOf(t, r, "energy") != replay.Passed {
			t.Errorf("curve %v: all %g Wh, attributed %g Wh, the check is %s", curve, r.Energy.GPUEnergyWh.V, r.Energy.GPUAttributedWh.V, stateOf(t, r, "energy"))
		}
	}
}

func TestResultsWithoutEnergy(t *testing.T) {
	run := quick(nil)
	run.Power = replay.Power{}
	for _, e := range run.Exchanges {
		e.InLine = nil
	}
	run.Joined = false
	r := run.Results()
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"mean_tokens_per_watt":null`, `"gpu_energy_wh":null`, `"cpu_energy_wh":null`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %.400s", want, text)
		}
	}
	if !r.Throughput.MeanTokensPerSecond.Valid || !r.Valid {
		t.Errorf("tokens/s %+v, valid %v", r.Throughput.MeanTokensPerSecond, r.Valid)
	}
	for _, name := range []string{"energy", "other GPU users", "other traffic", "client and in-line", "throttling", "stalls"} {
		if s := stateOf(t, r, name); s != replay.Skipped {
			t.Errorf("%s is %s although nothing was measured", name, s)
		}
	}
}

func stateOf(t *testing.T, r *replay.Results, name string) replay.State {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			if c.Detail == "" {
				t.Errorf("%s does not say what was seen", name)
			}
			return c.State
		}
	}
	t.Fatalf("there is no check %q", name)
	return ""
}

// Each way in which a run can lie, told by its check and by no other.
func TestFailedChecks(t *testing.T) {
	for _, c := range []struct {
		check string
		spec  func(*replay.Spec)
		lie   func(*replay.Run)
	}{
		{"schedule", func(s *replay.Spec) { s.Rate = 2 }, func(r *replay.Run) {
			for i, e := range r.Exchanges {
				e.LagUs = meter.Some(100)
				if i%3 == 0 {
					e.LagUs = meter.Some(30_000_000)
				}
			}
		}},
		{"cache", nil, func(r *replay.Run) { r.Exchanges[0].CacheN, r.Exchanges[0].PromptN = meter.Some(400), meter.Some(600) }},
		{"cache", func(s *replay.Spec) { s.Cache = replay.Warm }, func(*replay.Run) {}},
		{"prompt tokens", nil, func(r *replay.Run) {
			e := r.Exchanges[3]
			e.PromptN.V++
			e.InLine.PromptTokens = e.PromptN
		}},
		{"output tokens", nil, func(r *replay.Run) {
			e := r.Exchanges[3]
			e.OutputTokens.V--
			e.InLine.OutputTokens.V--
		}},
		{"output tokens", nil, func(r *replay.Run) {
			r.Exchanges[3].OutputTokens = meter.Int{}
			r.Exchanges[3].InLine.OutputTokens = meter.Int{}
		}},
		{"errors", nil, func(r *replay.Run) { r.Exchanges[1].Error = "the stream broke off" }},
		{"throttling", nil, func(r *replay.Run) {
			for i := range r.Power.Samples {
				r.Power.Samples[i].ThrottledUs, r.Power.Samples[i].Throttle = meter.Some(500_000), []string{"hardware thermal"}
			}
		}},
		{"Little's law", func(s *replay.Spec) { s.Requests = 10 }, func(r *replay.Run) {
			for i := range r.Gauge {
				r.Gauge[i].InFlight *= 2
			}
		}},
		{"stalls", nil, func(r *replay.Run) {
			e := r.Exchanges[4]
			c := &r.Power.Curves[0]
			from := int(e.StartedAt.Add(10*time.Millisecond).Sub(c.From) / (20 * time.Millisecond))
			for i := from; i < from+20; i++ {
				c.MilliWatts[i] = replaytest.IdleW * 1000
			}
		}},
		{"energy", nil, func(r *replay.Run) {
			for _, e := range r.Exchanges {
				e.InLine.GPUUj.V = e.InLine.GPUUj.V * 5 / 4
			}
		}},
		{"other GPU users", nil, func(r *replay.Run) { r.Exchanges[2].InLine.EnergyQuality = meter.EnergyContended }},
		{"other traffic", nil, func(r *replay.Run) { r.OtherTraffic = []string{"curl /v1/chat/completions"} }},
		{"server", nil, func(r *replay.Run) { r.After.Build = "b99999" }},
		{"server", nil, func(r *replay.Run) { r.Exchanges[5].Model = "another.gguf" }},
		{"client and in-line", nil, func(r *replay.Run) { r.Exchanges[0].InLine.OutputTokens.V++ }},
		{"client and in-line", nil, func(r *replay.Run) { r.Exchanges[0].TTFTUs.V -= 2 * replaytest.NetworkUs }},
		{"client and in-line", nil, func(r *replay.Run) { r.Exchanges[0].EndUs.V -= 10_000 }},
		{"client and in-line", nil, func(r *replay.Run) { r.Exchanges[0].InLine.OutputEvents.V-- }},
	} {
		run := quick(c.spec)
		if c.spec == nil {
			if r := run.Results(); !r.Valid {
				t.Fatalf("the run is invalid before it lies: %+v", r.Checks)
			}
		}
		c.lie(run)
		r := run.Results()
		if r.Valid || stateOf(t, r, c.check) != replay.Failed {
			t.Errorf("%s: the lie passed", c.check)
		}
		for _, other := range r.Checks {
			if other.Name != c.check && other.State == replay.Failed {
				t.Errorf("a lie about %s failed %s: %s", c.check, other.Name, other.Detail)
			}
		}
	}
}

func TestPassedChecks(t *testing.T) {
	power := quick(nil)
	for i := range power.Power.Samples { // the power limit is the figure under test
		power.Power.Samples[i].ThrottledUs, power.Power.Samples[i].Throttle = meter.Some(500_000), []string{"power cap"}
	}
	late := quick(nil)
	late.Exchanges[0].InLine.TTFTUs.V += 9000 // W1 was stamped late, and proxy_overhead says so
	late.Exchanges[0].InLine.ProxyOverheadUs.V += 9000
	few := quick(nil)
	few.Gauge = few.Gauge[:3]
	for name, run := range map[string]*replay.Run{"a power cap": power, "a preempted proxy": late, "too few readings of the gauge": few} {
		for _, c := range run.Check() {
			if c.State == replay.Failed {
				t.Errorf("%s: %s: %s", name, c.Name, c.Detail)
			}
		}
	}
}

// Where requests pass a tenth of the client's time on their way to the proxy and back, its gauge shows a tenth less:
// nothing was lost. A third less is more than that.
func TestLittlesLaw(t *testing.T) {
	for empty, want := range map[int]replay.State{10: replay.Passed, 3: replay.Failed} { // every so manyth reading
		run := quick(func(s *replay.Spec) { s.Requests = 10 })
		for _, e := range run.Exchanges {
			e.InLine.DurationUs.V = e.EndUs.V * 9 / 10
		}
		for i := range run.Gauge {
			if i%empty == 0 {
				run.Gauge[i].InFlight = 0
			}
		}
		if got := stateOf(t, run.Results(), "Little's law"); got != want {
			t.Errorf("every %dth reading shows nothing: %s, want %s", empty, got, want)
		}
	}
}

// A curve that begins in the middle of the run has not seen what went before.
func TestStallsNeedWholeCurve(t *testing.T) {
	run := quick(nil)
	c := &run.Power.Curves[0]
	half := len(c.MilliWatts) / 2
	c.From, c.MilliWatts = c.From.Add(time.Duration(half*20)*time.Millisecond), c.MilliWatts[half:]
	if s := stateOf(t, run.Results(), "stalls"); s != replay.Skipped {
		t.Errorf("stalls are %s", s)
	}
}

func TestErrorTolerance(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Requests = 20 })
	run.Exchanges[7].Error = "the stream broke off" // 1 of 120
	r := run.Results()
	if stateOf(t, r, "errors") != replay.Passed || r.Errors != 1 || r.PromptsTested != 119 {
		t.Errorf("%d errors of %d, errors is %s", r.Errors, len(run.Exchanges), stateOf(t, r, "errors"))
	}
}

func TestStability(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:1]; s.Requests = 9 })
	if s := run.Results().Stability; math.Abs(s.ChangePercent.V) > 0.1 || !s.VariationCoeff.Valid {
		t.Errorf("a steady run: %+v", s)
	}
	if s := quick(func(s *replay.Spec) { s.Requests = 1 }).Results().Stability; s.ChangePercent.Valid || s.VariationCoeff.Valid {
		t.Errorf("cells of one request each: %+v", s)
	}
	for i, e := range run.Exchanges { // decode slows down by half over the run
		e.LastUs.V = e.TTFTUs.V + (e.LastUs.V-e.TTFTUs.V)*int64(8+i)/8
	}
	if s := run.Results().Stability; s.ChangePercent.V > -30 || s.DriftPercent.Valid || s.Seconds.V < 20 || s.Seconds.V > 25 {
		t.Errorf("a run that slows down within 22 s, too short for a drift per minute: %+v", s)
	}
	long := quick(func(s *replay.Spec) { s.Cells = s.Cells[:1]; s.Requests = 27 })
	for i, e := range long.Exchanges {
		e.LastUs.V = e.TTFTUs.V + (e.LastUs.V-e.TTFTUs.V)*int64(24+i)/24
	}
	if s := long.Results().Stability; s.DriftPercent.V > -30 {
		t.Errorf("a run of more than a minute that slows down: %+v", s)
	}
}

// Keys and nesting of the guide's sample, first and in its order.
func TestResultsJSONShape(t *testing.T) {
	text, err := quick(nil).Results().JSON()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "\n") != 1 {
		t.Error("the results are not one line")
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	guide := `{"timestamp": "2026-02-07T10:00:00Z", "model": "GLM-4.7-Flash-UD-Q4_K_XL.gguf", "prompts_tested": 15,
		"throughput": {"mean_tokens_per_second": 234.5, "min_tokens_per_second": 189.2, "max_tokens_per_second": 287.6},
		"energy": {"mean_tokens_per_watt": 4.2, "gpu_energy_wh": 0.35, "cpu_energy_wh": 0.05},
		"latency": {"time_to_first_token_ms": 234.5, "generation_time_ms": 4267.8}}`
	var want map[string]any
	if err := json.Unmarshal([]byte(guide), &want); err != nil {
		t.Fatal(err)
	}
	var same func(path string, want, got any)
	same = func(path string, want, got any) {
		switch w := want.(type) {
		case map[string]any:
			g, ok := got.(map[string]any)
			if !ok {
				t.Errorf("%s is %T, not an object", path, got)
				return
			}
			for k, v := range w {
				same(path+"."+k, v, g[k])
			}
		case float64:
			if _, ok := got.(float64); !ok {
				t.Errorf("%s is %v, not a number", path, got)
			}
		case string:
			if _, ok := got.(string); !ok {
				t.Errorf("%s is %v, not a string", path, got)
			}
		}
	}
	same("", want, got)
	if at, err := time.Parse("2006-01-02T15:04:05Z", got["timestamp"].(string)); err != nil || !at.Equal(replaytest.Begin) {
		t.Errorf("timestamp %v: %v", got["timestamp"], err)
	}
	if at := regexp.MustCompile(`"(timestamp|model|prompts_tested|throughput|energy|latency|valid)":`).FindAllStringSubmatch(string(text), 7); at[0][1] != "timestamp" || at[5][1] != "latency" {
		t.Errorf("order of keys: %v", at)
	}
}

// The guide's own commands, as it prints them.
func TestGuideCommands(t *testing.T) {
	run := quick(nil)
	r := run.Results()
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "results.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	sh := func(command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	for key, want := range map[string]replay.Num{
		"tokens_per_second": r.Throughput.MeanTokensPerSecond, "tokens_per_watt": r.Energy.MeanTokensPerWatt, "time_to_first_token_ms": r.Latency.TimeToFirstTokenMs,
	} {
		number, _ := want.MarshalJSON()
		if got := sh(`grep -o '"` + key + `":[0-9.]*' results.json | head -1`); got != `"`+key+`":`+string(number)+"\n" {
			t.Errorf("grep for %s printed %q, want %s", key, got, number)
		}
	}
	t.Setenv("PATH", filepath.Dir(debian.Need(t, "python3"))+":"+os.Getenv("PATH"))
	const snippet = `python3 -c "
import json
import sys

with open('results.json') as f:
    data = json.load(f)

print(f'=== Performance Report ===')
print(f'Tokens/sec: {data[\"throughput\"][\"mean_tokens_per_second\"]:.2f}')
print(f'Tokens/W: {data[\"energy\"][\"mean_tokens_per_watt\"]:.2f}')
print(f'Latency: {data[\"latency\"][\"time_to_first_token_ms\"]:.2f}ms')
"`
	got := sh(snippet)
	if !regexp.MustCompile(`^=== Performance Report ===\nTokens/sec: \d+\.\d\d\nTokens/W: \d+\.\d\d\nLatency: \d+\.\d\dms\n$`).MatchString(got) {
		t.Errorf("the guide's snippet printed\n%s", got)
	}
}

// Two cards that draw the same: powers and energies are sums, temperatures and clocks are not.
func TestSeveralGPUs(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:2] })
	one := run.Results()
	samples, curves := run.Power.Samples, run.Power.Curves
	for _, s := range samples {
		s.Device = "GPU-1"
		run.Power.Samples = append(run.Power.Samples, s)
	}
	second := curves[0]
	second.Device = "GPU-1"
	run.Power.Curves = append(curves, second)
	two := run.Results()
	near(t, "mean power", two.Device.MeanPowerW, 2*one.Device.MeanPowerW.V, 1e-9)
	near(t, "idle power", two.Device.IdleBeforeW, 2*one.Device.IdleBeforeW.V, 1e-9)
	near(t, "energy", two.Energy.GPUEnergyWh, 2*one.Energy.GPUEnergyWh.V, 1e-9)
	near(t, "temperature", two.Device.TempMaxC, one.Device.TempMaxC.V, 1e-9)
	if len(two.Device.Devices) != 2 || stateOf(t, two, "stalls") != replay.Passed {
		t.Errorf("devices %v, stalls %s", two.Device.Devices, stateOf(t, two, "stalls"))
	}
	// One card at rest while the other computes is no stall.
	idle := make([]int64, len(second.MilliWatts))
	for i := range idle {
		idle[i] = replaytest.IdleW * 1000
	}
	run.Power.Curves[1].MilliWatts = idle
	if s := stateOf(t, run.Results(), "stalls"); s != replay.Passed {
		t.Errorf("one card at rest: stalls is %s", s)
	}
	run.Power.Curves = run.Power.Curves[:1] // a card without a curve
	if s := stateOf(t, run.Results(), "stalls"); s != replay.Skipped {
		t.Errorf("a card without a curve: stalls is %s", s)
	}
}

// TestWaitingLeavesRatios: a request that waited at idle power for its slot has more joules and the same ratios to tokens;
// the wait is a stall.
func TestWaitingLeavesRatios(t *testing.T) {
	run := quick(func(s *replay.Spec) { s.Cells = s.Cells[:1] })
	before := run.Results()
	const waited = 6_800_000
	for _, e := range run.Exchanges {
		r := e.InLine
		r.GPUIdleHeldUj, r.GPUIdleWaitingUj = r.GPUIdleUj, meter.Some(waited*replaytest.IdleW)
		r.GPUIdleUj.V += r.GPUIdleWaitingUj.V
		r.GPUUj.V += r.GPUIdleWaitingUj.V
		r.GPUSigmaUj = meter.Some(3_000_000)
	}
	r := run.Results()
	near(t, "tokens/W", r.Energy.MeanTokensPerWatt, before.Energy.MeanTokensPerWatt.V, 1e-9)
	near(t, "tokens/J", r.Energy.TokensPerJoule, before.Energy.TokensPerJoule.V, 1e-9)
	near(t, "J/token", r.Energy.JoulesPerToken, before.Energy.JoulesPerToken.V, 1e-9)
	near(t, "waiting Wh", r.Energy.GPUWaitingWh, 3*6.8*replaytest.IdleW/3600, 1e-9)
	near(t, "attributed Wh", r.Energy.GPUAttributedWh, before.Energy.GPUAttributedWh.V+3*6.8*replaytest.IdleW/3600, 1e-9)
	near(t, "sigma Wh", r.Energy.GPUAttributedSigmaWh, 3*math.Sqrt(3)/3600, 1e-9)
	near(t, "sigma of the mean J", r.Cells[0].JoulesSigma, math.Sqrt(3), 1e-9)

	e := run.Exchanges[1]
	e.InLine.QueueUs = meter.Some(400_000)
	from := int(e.StartedAt.Sub(run.Power.Curves[0].From) / (20 * time.Millisecond))
	for i := range 20 {
		run.Power.Curves[0].MilliWatts[from+1+i] = replaytest.IdleW * 1000
	}
	if s := stateOf(t, run.Results(), "stalls"); s != replay.Failed {
		t.Errorf("a request waited 0.4 s at idle power for its slot, and the check of stalls is %s", s)
	}
}
