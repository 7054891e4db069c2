package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/deploy/llama"
	"wattline/meter"
	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/compare"
	"wattline/replay/monitor"
	"wattline/replay/replaytest"
	"wattline/replay/tune"
	"wattline/sink"
)

// configRows are requests under two configurations, the second of which is slower by a factor.
func configRows(n int, slower float64) (rows sink.Rows) {
	rng := rand.New(rand.NewPCG(3, 3))
	at := time.Now().Add(-48 * time.Hour).UTC().Truncate(time.Microsecond)
	for i := range 2 * n {
		at = at.Add(20 * time.Second)
		id, f := "aaaa", 1.0
		if i >= n {
			id, f = "bbbb", slower
		}
		f *= math.Exp(0.01 * rng.NormFloat64())
		rows.Requests = append(rows.Requests, &meter.Record{
			ID: fmt.Sprintf("0193a1b2-0000-7000-8000-%012d", i), StartedAt: at, Instance: "one", Dialect: "chat", Model: "m", Outcome: meter.OK, ConfigID: id, Agent: "pi",
			TTFTUs: meter.Some(int64(200e3 * f)), PrefillUs: meter.Some(int64(190e3 * f)), DecodeUs: meter.Some(int64(1e6 * f)), DurationUs: meter.Some(int64(1.2e6 * f)),
			PromptTokens: meter.Some(1000), CachedTokens: meter.Some(0), OutputTokens: meter.Some(100), MeanConcurrency: meter.Some(1000), EnergyQuality: meter.EnergyUnavailable,
		})
	}
	return rows
}

// TestCompareRows: stored rows by configuration, in every form, and the exit code for CI.
func TestCompareRows(t *testing.T) {
	t.Parallel()
	path := storeOf(t, configRows(200, 1.1))
	page := filepath.Join(t.TempDir(), "page.html")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"compare", "config:aaaa", "config:bbbb", "--store", path, "--json", "--html", page, "--fail-on", "worse"}, &out, &errs); code != exitMissed {
		t.Fatalf("exit code %d, %s%s", code, out.String(), errs.String())
	}
	var r compare.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if m := r.Metrics[0]; m.Key != "ttft" || m.Verdict != compare.Worse || m.Effect.Low.V > 10 || m.Effect.High.V < 10 || r.Overlap.V < 0.99 {
		t.Errorf("%+v", m)
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("<svg")) {
		t.Error("no plot in the page", err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"config:aaaa", "config:aaaa"}, "same within the margin"},
		{[]string{"instance:one,config:aaaa", "50h..", "--format", "markdown"}, "| time to first token |"},
		{[]string{"14d..", "14d..", "--margin", "5"}, "margin 5 %"},
		{[]string{"config:aaaa", "config:aaaa", "--metric", "vram", "--fail-on", "worse"}, "not measured"},
		{[]string{"config:aaaa", "config:aaaa", "--metric", "vram", "--fail-on", "cannot-tell"}, "not measured"},
	} {
		out.Reset()
		want := exitOK
		if c.args[len(c.args)-1] == "cannot-tell" {
			want = exitMissed
		}
		if code := run(t.Context(), append([]string{"compare", "--store", path}, c.args...), &out, &errs); code != want || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: exit code %d, %s%s", c.args, code, out.String(), errs.String())
		}
	}
}

// TestCompareBadInput: a sentence, and nothing invented.
func TestCompareBadInput(t *testing.T) {
	t.Parallel()
	path, dir := storeOf(t, configRows(20, 1)), t.TempDir()
	folder := func(name string, s replay.Spec) string {
		r := replaytest.Run(s)
		if err := archive.Write(filepath.Join(dir, name), archive.Manifest{}, r, r.Results()); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	one := folder("one", replay.Spec{PromptSizes: replay.Sizes{1000}})
	many := folder("many", replay.Spec{PromptSizes: replay.Sizes{1000}, Trials: 3})
	other := folder("other", replay.Spec{PromptSizes: replay.Sizes{1000}, Trials: 3, Concurrency: 4})
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"config:aaaa"}, exitUsage, "two things are compared, not 1"},
		{[]string{"config:aaaa", "config:cccc"}, exitFailed, "has no request of config:cccc"},
		{[]string{"config:aaaa", "nonsense"}, exitUsage, `"nonsense" is neither a folder`},
		{[]string{"config:aaaa", "label:x"}, exitUsage, "write label:KEY=VALUE"},
		{[]string{"config:aaaa", "2d..3d"}, exitUsage, "ends before it begins"},
		{[]string{"config:aaaa", "config:bbbb", "--fail-on", "better"}, exitUsage, "--fail-on better"},
		{[]string{"config:aaaa", "config:bbbb", "--metric", "speed"}, exitUsage, `there is no metric "speed"`},
		{[]string{"config:aaaa", "config:bbbb", "--margin", "0"}, exitUsage, "--margin"},
		{[]string{"--a", "http://127.0.0.1:1"}, exitUsage, "give --a URL and --b URL"},
		{[]string{"--a", "http://127.0.0.1:1", "--b", "http://127.0.0.1:1"}, exitFailed, "no server answers at http://127.0.0.1:1"},
		{[]string{"--a", "http://127.0.0.1:1", "--b", "http://127.0.0.1:1", "--workload", dir + "/none.json"}, exitUsage, "cannot be read"},
		{[]string{many, "config:aaaa"}, exitFailed, "compare two folders"},
		{[]string{many, other}, exitFailed, "different workloads"},
		{[]string{many, dir}, exitFailed, "holds no run"},
		{[]string{many, one}, exitOK, "one trial has no spread"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"compare", "--store", path}, c.args...), &out, &errs)
		if code != c.code || !strings.Contains(out.String()+errs.String(), c.want) {
			t.Errorf("%q: exit code %d, %s%s", c.args, code, out.String(), errs.String())
		}
		if code != exitOK && out.Len() > 0 || strings.Count(errs.String(), "\n") > 1 {
			t.Errorf("%q printed %q %q", c.args, out.String(), errs.String())
		}
	}
}

// serverAt starts a llama-server on a port, as one that is started anew has it, and returns what ends it.
func serverAt(t *testing.T, port string, args ...string) (end func()) {
	t.Helper()
	bin, err := llama.Find(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	model, err := llama.TinyModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin.Path, append([]string{"--host", "127.0.0.1", "--port", port, "-m", model, "--no-webui", "-c", "8192", "--threads", "1"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	end = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	t.Cleanup(end)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		resp, err := http.Get("http://127.0.0.1:" + port + "/health")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return end
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no llama-server at port %s: %v", port, err)
		}
	}
}

// TestMonitorNamesTheCauseSoak: a real server that is started anew with other flags is slower; the monitor says so, with what
// changed, and a log that was killed goes on.
func TestMonitorNamesTheCauseSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("a minute of canaries: set WATTLINE_SOAK=1")
	}
	t.Parallel()
	address, err := tune.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	end := serverAt(t, port(address), "-np", "4")
	w := serve(t, "http://"+address, "--store", filepath.Join(t.TempDir(), "wattline.db"))
	log := filepath.Join(t.TempDir(), "monitor.jsonl")
	watching := func(looks int) (said []string) {
		cmd := command(t, "monitor", "--endpoint", w.url, "--interval", "50ms", "--out", log)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for scan := bufio.NewScanner(out); len(said) < looks && scan.Scan(); {
			said = append(said, scan.Text())
		}
		_ = cmd.Process.Kill() // kill -9
		_ = cmd.Wait()
		return said
	}
	watching(35)
	end()
	serverAt(t, port(address), "-np", "2", "-b", "8", "-ub", "8")
	watching(5)
	out := watching(15)
	l, lines, err := monitor.OpenLog(log)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	var alarm *monitor.Alarm
	for _, l := range lines {
		for i, a := range l.Alarms {
			if a.Metric == "ttft" && a.Worse {
				alarm = &l.Alarms[i]
			}
		}
	}
	if len(lines) < 50 || alarm == nil || !strings.Contains(strings.Join(alarm.With, "; "), "-b=8") {
		t.Errorf("%+v of %d lines\n%s", alarm, len(lines), strings.Join(out, "\n"))
	}
}
