package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/replaytest"
	"wattline/replay/table"
	"wattline/replay/twin"
)

func labelled(name string, change func(*replay.Spec)) LabelledRun {
	s := replay.Quick()
	s.Cells = slices.Clone(s.Cells)
	if change != nil {
		change(&s)
	}
	run := replaytest.Run(s)
	return LabelledRun{
		Label: name, Run: run, Results: run.Results(), Devices: run.Power.Devices,
		Flags: map[string]bool{"--batch-size": true, "--ubatch-size": true, "--flash-attn": true, "--kv-unified": false, "--ctx-size": true, "--cache-ram": true}, Settings: map[string]string{"--gpu-layers": "99"},
	}
}

// Every border of every band, as the guide writes it.
func TestBands(t *testing.T) {
	for _, c := range []struct {
		f    Figure
		v    float64
		want string
	}{
		{Throughput, 300, "Excellent performance"}, {Throughput, 200.1, "Excellent performance"}, {Throughput, 200, "Good performance"}, {Throughput, 150, "Good performance"},
		{Throughput, 149.9, "Acceptable"}, {Throughput, 100, "Acceptable"}, {Throughput, 99.9, "Needs optimization"}, {Throughput, 0, "Needs optimization"},
		{Efficiency, 4.1, "Excellent energy efficiency"}, {Efficiency, 4, "Good efficiency"}, {Efficiency, 3, "Good efficiency"}, {Efficiency, 2.99, "Needs power optimization"},
		{Latency, 199.9, "Excellent response time"}, {Latency, 200, "Acceptable response time"}, {Latency, 500, "Acceptable response time"}, {Latency, 500.1, "Slow response time"},
		{VRAM, 7.9, "Insufficient for full model"}, {VRAM, 8, "Minimum requirements"}, {VRAM, 10, "Minimum requirements"}, {VRAM, 10.1, "Optimal range"}, {VRAM, 12, "Optimal range"},
		{VRAM, 13, "Above the optimal range (the guide's peak with large batches)"}, {VRAM, 14.1, "Memory optimization needed"},
	} {
		if got := bandOf(c.f, c.v); got != c.want {
			t.Errorf("%s %g is %q, want %q", c.f, c.v, got, c.want)
		}
	}
}

// The guide's bands leave no gap, and its targets agree with themselves: harder ones demand more.
func TestGuideData(t *testing.T) {
	for f := range bands {
		for v := 0.0; v < 1000; v += 0.25 {
			if bandOf(f, v) == "" {
				t.Errorf("%s %g has no band", f, v)
			}
		}
	}
	for i := 1; i < len(targets); i++ {
		a, b := targets[i-1], targets[i]
		if a.TokensPerSecond >= b.TokensPerSecond || a.TokensPerWatt >= b.TokensPerWatt || a.Ms <= b.Ms {
			t.Errorf("%s is not harder than %s", b.Name, a.Name)
		}
	}
	if len(scenarios) != 4 || len(references) != 2 || len(rules) != 12+1 /* of our own */ || len(targets) != 4 || len(typicals) != 3 {
		t.Errorf("%d scenarios, %d references, %d tips, %d targets, %d typical ranges", len(scenarios), len(references), len(rules), len(targets), len(typicals))
	}
	for _, c := range []struct {
		f    Figure
		v    float64
		want string
	}{
		{Throughput, 100, ""}, {Throughput, 101, "Minimum"}, {Throughput, 151, "Good"}, {Throughput, 201, "Excellent"}, {Throughput, 251, "Optimal"},
		{Efficiency, 2, ""}, {Efficiency, 2.1, "Minimum"}, {Efficiency, 5.1, "Optimal"}, {Latency, 500, ""}, {Latency, 499, "Minimum"}, {Latency, 149, "Optimal"},
	} {
		if got := targetOf(c.f, c.v); got != c.want {
			t.Errorf("%s %g meets %q, want %q", c.f, c.v, got, c.want)
		}
	}
}

func gradeOf(t *testing.T, r *replay.Results, f Figure) Grade {
	t.Helper()
	for _, g := range Grades(r) {
		if g.Figure == f {
			return g
		}
	}
	t.Fatalf("no grade of %s", f)
	return Grade{}
}

func TestGrades(t *testing.T) {
	r := labelled("a", nil).Results
	if g := gradeOf(t, r, Efficiency); g.Why != "" || g.Of != "coding 1k x 1k" && g.Of != "coding 1k x 1024" {
		t.Errorf("tokens/W: %+v", g)
	}
	if g := gradeOf(t, r, Throughput); g.Band != "Needs optimization" || g.Of != "coding 1k x 1024" {
		t.Errorf("throughput: %+v, want that of the longest reply", g)
	}
	if g := gradeOf(t, r, Latency); g.Band != "Acceptable response time" || g.Target != "Good" || math.Abs(g.Value.V-205.7) > 0.5 {
		t.Errorf("latency: %+v", g)
	}
	if g := gradeOf(t, r, VRAM); g.Band != "Memory optimization needed" || g.Value.V != 17 {
		t.Errorf("VRAM: %+v", g)
	}
	for name, change := range map[string]func(*replay.Spec){
		"several in flight": func(s *replay.Spec) { s.Concurrency = 4 },
		"an open loop":      func(s *replay.Spec) { s.Rate = 1 },
		"a warm cache":      func(s *replay.Spec) { s.Cache = replay.Warm },
		"other sizes":       func(s *replay.Spec) { s.Cells = s.Cells[1:2] },
	} {
		for _, g := range Grades(labelled(name, change).Results)[:3] {
			if g.Why == "" || g.Band != "" {
				t.Errorf("%s: %+v is graded", name, g)
			}
		}
	}
	waited := labelled("a", nil)
	for _, e := range waited.Run.Exchanges { // 7 s at idle power before each had its slot
		e.InLine.GPUUj.V, e.InLine.GPUIdleUj.V, e.InLine.GPUIdleWaitingUj = e.InLine.GPUUj.V+840e6, e.InLine.GPUIdleUj.V+840e6, meter.Some(840e6)
	}
	if g, w := gradeOf(t, r, Efficiency), gradeOf(t, waited.Run.Results(), Efficiency); g.Band != w.Band || math.Abs(g.Value.V/w.Value.V-1) > 1e-9 {
		t.Errorf("tokens/W: %+v, after a wait %+v", g, w)
	}
	short := labelled("a", func(s *replay.Spec) { s.Cells = s.Cells[:1] }).Results // 1k x 256: long enough but for tokens/W
	if gradeOf(t, short, Efficiency).Why == "" || gradeOf(t, short, Throughput).Why != "" || gradeOf(t, short, Latency).Why != "" {
		t.Errorf("%+v", Grades(short))
	}
	other := labelled("a", nil).Results
	other.Model, other.Server.ModelPath = "qwen.gguf", "qwen.gguf"
	for _, g := range Grades(other) {
		if !strings.Contains(g.Why, "GLM-4.7") || g.Band != "" {
			t.Errorf("another model is graded: %+v", g)
		}
	}
	var out bytes.Buffer
	printGrades(&out, other, nil)
	if out.String() != "By the guide: not graded: the guide's bands are of GLM-4.7 Flash Q4.\n" {
		t.Errorf("%q", out.String())
	}
}

func TestScenarios(t *testing.T) {
	n := replay.Some
	for i, s := range []situation{
		{tokensPerSecond: n(220), vramGB: n(11)}, {tokensPerSecond: n(120), vramGB: n(17)}, {tokensPerSecond: n(60), vramGB: n(9)}, {tokensPerWatt: n(4), tempC: n(85)},
	} {
		for j, sc := range scenarios {
			if got := sc.holds(s); got != (i == j) {
				t.Errorf("%s holds for %+v: %v", sc.Name, s, got)
			}
		}
		if scenarios[i].holds(situation{}) {
			t.Errorf("%s holds where nothing was measured", scenarios[i].Name)
		}
	}
}

func TestReferences(t *testing.T) {
	r := labelled("a", nil).Results
	card := func(name string) []replay.DeviceInfo { return []replay.DeviceInfo{{Name: name}} }
	if got := References(r, card("NVIDIA GeForce RTX 4090")); len(got) != 1 || !strings.Contains(got[0], "250-400") {
		t.Errorf("%v", got)
	}
	if got := References(r, card("NVIDIA H100 80GB HBM3")); len(got) != 0 {
		t.Errorf("an H100 is compared with %v", got)
	}
}

func TestRanges(t *testing.T) {
	r := labelled("a", nil).Results
	got := strings.Join(Ranges(r), "\n")
	for _, want := range []string{"Throughput 97.5 tokens/s: short of the guide's 100-300+", "Latency 206 ms: within the guide's 100-500ms on a modern GPU, short of its 50-200ms"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for v, want := range map[float64]string{40: "better than", 50: "within", 200: "within", 201: "short of"} {
		if got := place(Grade{Figure: Latency, Value: replay.Some(v)}, [2]float64{50, 200}); got != want {
			t.Errorf("%g ms is %s 50-200 ms, want %s", v, got, want)
		}
	}
	r.Server.ModelPath, r.Model = "other.gguf", "other.gguf"
	if got := Ranges(r); len(got) != 0 {
		t.Errorf("another model is compared: %v", got)
	}
}

// Each tip fires on its own numbers, says them, and names no flag that the server would refuse.
func TestTips(t *testing.T) {
	if tips := Tips(Measured{Results: &replay.Results{}}); len(tips) != 0 {
		t.Errorf("nothing was measured, and there are tips: %+v", tips)
	}
	n := replay.Some
	several := func(r *replay.Results) { r.Workload.Spec.Concurrency = 4 }
	quantiles := func(r *replay.Results, p50, p90, p99 float64) {
		r.Latency.ITL.P50.Value, r.Latency.ITL.P90.Value, r.Latency.ITL.P99.Value = n(p50), n(p90), n(p99)
	}
	for advice, c := range map[string]struct {
		change func(*Measured)
		flags  string
	}{
		"Increase batch sizes": {func(m *Measured) {
			m.Results.Cells[2].TTFTMs.Mean, m.Results.Cells[2].GenerationMs.Mean = n(75000), n(80000)
		}, "--batch-size 4096 --ubatch-size 1024"},
		"Use flash attention":     {func(m *Measured) { m.Results.Cells[2].DecodeTPS.Mean = n(30) }, "--flash-attn on"},
		"Enable unified KV cache": {func(m *Measured) { several(m.Results); quantiles(m.Results, 10, 25, 30) }, "--kv-unified"},
		"Optimize context size": {func(m *Measured) {
			m.Results.Workload.Dataset = &replay.Dataset{File: "mine.jsonl", LargestTokens: 1256}
		}, "--ctx-size 10240"},
		"Close other GPU applications": {func(m *Measured) { m.Results.InLine.Contended = 2 }, ""},
		"Lower power limits":           {func(m *Measured) { m.Results.Device.MeanPowerW = n(200) }, ""},
		"Optimize batch processing":    {func(m *Measured) {}, ""},
		"Monitor thermal throttling":   {func(m *Measured) { m.Results.Device.TempMaxC = n(85) }, ""},
		"Use power-aware settings: serve requests together, idle draw is shared by those in flight": {func(m *Measured) { m.Results.Energy.GPUIdleWh, m.Results.Energy.GPUAttributedWh = n(5), n(10) }, ""},
		"Reduce batch sizes":                     {func(m *Measured) { several(m.Results); quantiles(m.Results, 10, 15, 200) }, "--batch-size 2048 --ubatch-size 256"},
		"Pre-load model: warm up before testing": {func(m *Measured) { m.FirstWarmupMs, m.LaterMs = n(2700), n(200) }, ""},
		"Use smaller outputs": {func(m *Measured) {
			several(m.Results)
			m.Results.InLine.Waterfall.Queue, m.Results.Latency.TTFT.Median = n(900), n(1000)
		}, ""},
		"Keep no old prompts in RAM (not a tip of the guide)": {func(m *Measured) {
			m.Results.InLine.Waterfall.Queue, m.Results.Latency.TTFT.Median = n(900), n(1000)
		}, "--cache-ram 0"},
	} {
		run := labelled("a", nil)
		for i := range run.Results.Cells { // poor enough for the tips on energy
			run.Results.Cells[i].TokensPerWatt.Mean = n(2)
		}
		m := Measured{Results: run.Results, Flags: run.Flags}
		c.change(&m)
		found := false
		for _, tip := range Tips(m) {
			if tip.Advice != advice {
				continue
			}
			found = true
			if !regexp.MustCompile(`\d`).MatchString(tip.Because) || strings.Join(tip.Flags, " ") != c.flags {
				t.Errorf("%s: because %q, flags %q, want %q", advice, tip.Because, tip.Flags, c.flags)
			}
		}
		if !found {
			t.Errorf("%s does not fire", advice)
		}
	}
}

// The benchmark's own sizes say nothing about the user's prompts, and idle draw without a remedy is no tip.
func TestTipsThatAreNotGiven(t *testing.T) {
	run := labelled("a", func(s *replay.Spec) { s.Cells = s.Cells[:1] })
	run.Results.Energy.GPUIdleWh, run.Results.Energy.GPUAttributedWh, run.Results.Server.Slots = replay.Some(5), replay.Some(10), 1
	for _, tip := range Tips(measuredOf(run)) {
		t.Errorf("%s, because %s", tip.Advice, tip.Because)
	}
}

func TestTipsOnBatchSizes(t *testing.T) {
	run := labelled("a", func(s *replay.Spec) { s.Concurrency = 4 })
	r := run.Results
	r.Latency.ITL.P50.Value, r.Latency.ITL.P99.Value = replay.Some(10), replay.Some(500)
	r.Cells[2].TTFTMs.Mean, r.Cells[2].GenerationMs.Mean = replay.Some(75000), replay.Some(80000)
	sizes := 0
	for _, tip := range Tips(Measured{Results: r, Flags: run.Flags}) {
		if strings.Contains(strings.Join(tip.Flags, " "), "--batch-size") {
			sizes++
		}
	}
	if sizes != 1 {
		t.Errorf("%d tips on batch sizes", sizes)
	}
}

func TestFlags(t *testing.T) {
	m := Measured{Flags: map[string]bool{"--kv-unified": false, "--flash-attn": true}, Settings: map[string]string{"--flash-attn": "on"}}
	for name, c := range map[[2]string]string{
		{"--kv-unified", "on"}: "--kv-unified", {"--flash-attn", "on"}: "", {"--flash-attn", "off"}: "--flash-attn off", {"--batch-size", "1"}: "",
	} {
		if got := m.flag(name[0], name[1]); got != c {
			t.Errorf("%v is written %q, want %q", name, got, c)
		}
	}
}

func TestFollowedTips(t *testing.T) {
	l := labelled("a", nil)
	m := measuredOf(l)
	m.Results.Cells[2].DecodeTPS.Mean = replay.Some(30)
	given := func() bool {
		return slices.ContainsFunc(Tips(m), func(tip Tip) bool { return tip.Advice == "Use flash attention" })
	}
	if !given() {
		t.Error("the tip is not given at all")
	}
	m.Settings = map[string]string{"--flash-attn": "on"}
	if given() {
		t.Error("the server has flash attention, and is told to use it")
	}
	m.Settings = map[string]string{"--flash-attn": "off"}
	if !given() {
		t.Error("the server has it off, and is not told to use it")
	}
}

// scaled is a run of five trials whose times and joules are those of others times a factor, with noise.
func scaled(label string, seed uint64, time, joules float64, change func(*replay.Spec)) LabelledRun {
	l := labelled(label, func(s *replay.Spec) {
		s.Trials = 5
		if change != nil {
			change(s)
		}
	})
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, e := range l.Run.Exchanges {
		f := math.Exp(0.003 * rng.NormFloat64())
		for _, v := range []*meter.Int{&e.TTFTUs, &e.LastUs, &e.EndUs, &e.InLine.DurationUs} {
			v.V = int64(float64(v.V) * f * time)
		}
		e.InLine.GPUUj.V = int64(float64(e.InLine.GPUUj.V) * f * joules)
	}
	l.Results = l.Run.Results()
	l.Results.Valid, l.Results.Checks = true, nil
	return l
}

func TestComparison(t *testing.T) {
	a, b, c := scaled("Default", 1, 1, 1, nil), scaled("Optimized", 2, 0.8, 1.3, nil), scaled("Low|VRAM", 3, 1.2, 1.001, nil)
	compared := func(runs []LabelledRun, wants ...string) {
		t.Helper()
		var out bytes.Buffer
		if err := Comparison(&out, runs); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !regexp.MustCompile(want).MatchString(out.String()) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	}
	// The best by time may not be the best by energy, and 0.1 % is no difference.
	compared([]LabelledRun{a, b, c},
		"# GLM-4.7-Flash-UD-Q4_K_XL.gguf Performance Comparison", "## Test Date: 2026-11-23", `\| Configuration \| Tokens/sec \| tokens/W \| tokens/J \| Latency \| VRAM \|`,
		`- \*\*Best Performance\*\*: Optimized \([0-9.]+, next Default with [0-9.]+; end-to-end time -20.* .. -19.* %\)`,
		`- \*\*Best Energy\*\*: (Default and Low\|VRAM|Low\|VRAM and Default) are not told apart`, "tokens/W divides by the mean power alone",
		`- \*\*Best Latency\*\*: Optimized`, `- \*\*Best VRAM Usage\*\*: Default and Optimized, Low\|VRAM are not told apart`, `\| Low\\\|VRAM \| `)
	once := scaled("Once", 4, 0.5, 1, func(s *replay.Spec) { s.Trials = 1 })
	compared([]LabelledRun{a, once}, `\*\*Best Performance\*\*: not told: Once has [0-9.]+, Default [0-9.]+; one trial has no spread`)
	other := scaled("Other", 5, 0.5, 1, func(s *replay.Spec) { s.Length = replay.NaturalLength })
	other.Results.Valid, other.Results.Model = false, "other.gguf"
	other.Results.Checks = []replay.Check{{Name: "errors", State: replay.Failed, Detail: "half of them"}}
	compared([]LabelledRun{a, other}, `\*\*Best Latency\*\*: not told: .*different workloads`, `\*\*Other is INVALID\*\*: errors: half of them`, "forced and of natural length", "Other ran other.gguf")
	a.Results.Energy.TokensPerJoule, b.Results.Energy.TokensPerJoule = replay.Num{}, replay.Num{}
	compared([]LabelledRun{a, b}, `\*\*Best Energy\*\*: not measured`)
}

// TestComparisonOfATrace: runs of one trace are judged only if one of them was proven in its folder.
func TestComparisonOfATrace(t *testing.T) {
	var runs []LabelledRun
	for i, seconds := range []float64{1, 0.5} {
		l := scaled([]string{"As recorded", "Other"}[i], uint64(i+1), seconds, 1, func(s *replay.Spec) {
			*s = replay.Spec{PromptSizes: replay.Sizes{500}, OutputTokens: replay.Sizes{64}, Trials: 1, Requests: 80}
		})
		l.Run.Plan.Recording = &replay.Recording{File: "week.jsonl", SHA256: "abc", Speed: 1, Sample: 1, Sent: 80, Salt: uint64(i), Measured: true}
		l.Dir = t.TempDir()
		runs = append(runs, l)
	}
	page := func(wants string) {
		t.Helper()
		var out bytes.Buffer
		if err := Comparison(&out, runs); err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(wants).MatchString(out.String()) {
			t.Errorf("no %q in\n%s", wants, out.String())
		}
	}
	page(`\*\*Best Latency\*\*: not told: Other has .*the twin was never proven`)
	proof := &twin.Proof{Trace: "abc", Run: twin.RunOf(runs[0].Run), Passed: true}
	if err := proof.Report(io.Discard, runs[0].Dir); err != nil {
		t.Fatal(err)
	}
	page(`\*\*Best Latency\*\*: Other \(`)
}

func TestLlamaBench(t *testing.T) {
	var out bytes.Buffer
	if err := LlamaBench(&out, []LabelledRun{labelled("a", nil), labelled("b", func(s *replay.Spec) { s.Concurrency = 4 })}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	fields := func(line string) (out []string) {
		for f := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			out = append(out, strings.TrimSpace(f))
		}
		return out
	}
	if got := strings.Join(fields(lines[0]), " "); got != "model size params backend ngl test t/s" {
		t.Errorf("head %q", got)
	}
	want := []string{"GLM-4.7-Flash-UD-Q4_K_XL", "15.74 GiB", "29.94 B", "CUDA", "99", "pp1000", "4967.32 ± 56.60"}
	if got := fields(lines[2]); !slices.Equal(got, want) {
		t.Errorf("first test %q, want %q", got, want)
	}
	if !strings.Contains(out.String(), "tg256 @ d100000") || !strings.Contains(out.String(), "b is left out") || strings.Count(out.String(), " pp1000 ") != 1 {
		t.Errorf("\n%s", out.String())
	}
	for _, line := range lines[:10] {
		if line != "" && strings.Count(line, "|") != 8 {
			t.Errorf("%q has not seven columns", line)
		}
	}
}

func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	good := labelled("a", func(s *replay.Spec) { s.Trials = 5 })
	Terminal(&out, good)
	for _, want := range []string{
		"coding 100k x 256", "95 % t interval", "Measured twice: 90 requests", "prefill J", "waited J", " ± 0.775", " A ", "output tokens / (last output - start of the request)", "By the guide:",
		"Latency: 206 ms: Acceptable response time, target Good (first output - start; coding 1k x 1024)",
		fmt.Sprintf("valid: %d checks passed\n", len(good.Results.Checks)), // all of them
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	bad := labelled("a", nil)
	for _, e := range bad.Run.Exchanges {
		e.InLine = nil
	}
	bad.Run.Exchanges[0].CacheN = meter.Some(5)
	bad.Run.Power = replay.Power{}
	bad.Results = bad.Run.Results()
	out.Reset()
	Terminal(&out, bad)
	for _, want := range []string{"INVALID: do not use these numbers", "cache: 1 of 18 cold requests", "Energy: not measured", "No in-line rows", "not checked: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1.23456: "1.23", 12345.6: "12346", 0.000123456: "0.000123", 999.6: "1000", -1.5: "-1.5"} {
		if got := table.Num(replay.Some(v)); got != want {
			t.Errorf("%g is shown as %s, want %s", v, got, want)
		}
	}
	if table.Num(replay.Num{}) != "-" || withUnit(replay.Num{}, "ms") != "-" {
		t.Error("an absent number is not a dash")
	}
}

func TestGradesAreJSON(t *testing.T) {
	text, err := json.Marshal(Grades(labelled("a", nil).Results))
	if err != nil || !strings.Contains(string(text), `"band":"Acceptable response time"`) {
		t.Errorf("%s (%v)", text, err)
	}
}

// The Markdown report holds every table of every run, whole, and says what was simulated.
func TestMarkdown(t *testing.T) {
	a, b := labelled("one", nil), labelled("two", nil)
	a.Results.Energy.Simulated = true
	var out bytes.Buffer
	if err := Markdown(&out, []LabelledRun{a, b}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"## one\n", "### Latency and throughput", "### Energy", "### Where the time went", "### Checks", "| coding 100k x 256 |", "**The energy of one is SIMULATED**", "; the energy is SIMULATED."} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	columns := 0
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if columns != 0 && n != columns {
			t.Errorf("%d columns in a table of %d: %s", n, columns, line)
		}
		columns = n
	}
}

func TestMarkdownEscapesCells(t *testing.T) {
	var b strings.Builder
	table := Table{Title: "T", Head: []string{"a|b", "n"}, Rows: [][]string{{"x|y", "1"}}}
	table.markdown(&b)
	for _, want := range []string{`| a\|b | n |`, `| x\|y | 1 |`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
