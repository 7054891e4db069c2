package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wattline/proxy/llamatest"
	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/prompt"
)

// ended is the result of a wattline process.
type ended struct {
	code           int
	stdout, stderr string
}

// wattline runs the command to its end.
func wattline(t *testing.T, args ...string) ended {
	t.Helper()
	cmd := command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func readResults(t *testing.T, path string) *replay.Results {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &replay.Results{}
	if err := json.Unmarshal(text, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReplayQuick: the quick grid on a real server through wattline. Every request is measured twice, and the run is valid.
func TestReplayQuick(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t)
	w := serve(t, srv.URL())
	dir := filepath.Join(t.TempDir(), "quick")
	file := filepath.Join(t.TempDir(), "results.json")
	got := wattline(t, "replay", "--endpoint", w.url, "--out", dir, "--json-out", file)
	if got.code != exitOK {
		t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	r := readResults(t, file)
	if !r.Valid || r.PromptsTested != 12 || r.InLine.Joined != 12 || r.InLine.Missing != 0 || len(r.InLine.Disagree) != 0 {
		t.Errorf("valid %v, %d tested, %d joined, disagreements %+v", r.Valid, r.PromptsTested, r.InLine.Joined, r.InLine.Disagree)
	}
	if len(r.Workload.Dropped) != 2 || !strings.Contains(got.stderr, "not run: coding 100k x 256: needs 100256 tokens, the server's context is 2048 a slot") {
		t.Errorf("dropped %+v\n%s", r.Workload.Dropped, got.stderr)
	}
	if i, j := strings.Index(got.stderr, "predicted duration"), strings.Index(got.stderr, "preparing"); i < 0 || j < i {
		t.Errorf("the prediction does not come first:\n%s", got.stderr)
	}
	for _, state := range r.Checks {
		if state.Name == "cache" && state.State != replay.Passed || state.Name == "prompt tokens" && state.State != replay.Passed {
			t.Errorf("%+v", state)
		}
	}
	if e := r.Energy; e.GPUEnergyWh.Valid || e.MeanTokensPerWatt.Valid || !strings.Contains(got.stdout, "Energy: not measured") {
		t.Errorf("energy without a source: %+v", e)
	}
	a, err := archive.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Manifest.ServerFlags) < 100 || len(a.Run.Gauge) == 0 || a.Manifest.Run.Plan.Hash != r.Workload.PlanHash {
		t.Errorf("%d flags of the server, %d readings of the gauge", len(a.Manifest.ServerFlags), len(a.Run.Gauge))
	}
	for _, e := range a.Run.Exchanges {
		if e.InLine == nil || e.InLine.Labels["replay"] == "" || e.InLine.Agent == "" {
			t.Errorf("a row without its label: %+v", e.InLine)
		}
	}
}

// tapped starts a proxy to a server that calls see with every request.
func tapped(t *testing.T, server string, see func(r *http.Request, body []byte)) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport = &http.Transport{DisableKeepAlives: true} // llama-server closes the connection after a stream
	tap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil && r.Context().Err() == nil {
			t.Error(err)
		}
		see(r, body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(tap.Close)
	return tap.URL
}

// TestReplayDeterminism: the same seed sends the same bytes in the same order.
func TestReplayDeterminism(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies []string // of the measured requests
	tap := tapped(t, llamatest.Start(t).URL(), func(r *http.Request, body []byte) {
		if strings.Contains(r.Header.Get("X-Request-Id"), "-m-") {
			mu.Lock()
			bodies = append(bodies, string(body))
			mu.Unlock()
		}
	})
	sent := func(seed string) (hash string, all []string) {
		dir := filepath.Join(t.TempDir(), "run")
		if got := wattline(t, "replay", "--endpoint", tap, "--out", dir, "--prompt-sizes", "100,150", "--output-tokens", "4,8", "--trials", "2", "--seed", seed); got.code != exitOK {
			t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
		}
		a, err := archive.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		all, bodies = bodies, nil
		return a.Results.Workload.PlanHash, all
	}
	hashA, a := sent("5")
	hashB, b := sent("5")
	hashC, c := sent("6")
	if hashA != hashB || !slices.Equal(a, b) || len(a) != 24 {
		t.Errorf("the same seed sent %d and %d requests, plans %s and %s; the same bytes: %v", len(a), len(b), hashA, hashB, slices.Equal(a, b))
	}
	if hashA == hashC || slices.ContainsFunc(c, func(body string) bool { return slices.Contains(a, body) }) {
		t.Error("another seed is the same plan, or sends the same prompt")
	}
}

// TestReplayOtherWorkloads: an open loop, a warm cache, natural lengths, the full grid and stress, scaled to the server's
// context.
func TestReplayOtherWorkloads(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t)
	w := serve(t, srv.URL())
	for name, args := range map[string][]string{
		"open loop": {"--prompt-sizes", "100", "--output-tokens", "8", "--rate", "5", "--requests", "10", "--arrival", "gamma", "--burstiness", "0.5"},
		"warm":      {"--prompt-sizes", "300", "--output-tokens", "8", "--cache", "warm"},
		"natural":   {"--prompt-sizes", "300", "--output-tokens", "8", "--cache", "natural", "--length", "natural"},
		"full":      {"--full", "--prompt-sizes", "30,60,120", "--output-tokens", "4,8,16", "--requests", "1"},
		"stress":    {"--stress", "--duration", "3", "--prompt-sizes", "100", "--output-tokens", fmt.Sprint(llamatest.Tokens(t, srv, 150*time.Millisecond, 64))},
	} {
		file := filepath.Join(t.TempDir(), "results.json")
		got := wattline(t, append([]string{"replay", "--endpoint", w.url, "--json-out", file}, args...)...)
		if got.code != exitOK && (name != "open loop" || !strings.Contains(got.stdout, "fell behind its schedule")) { // a busy machine may
			t.Errorf("%s: exit %d\n%s\n%s", name, got.code, got.stdout, got.stderr)
			continue
		}
		r := readResults(t, file)
		if r.Errors != 0 || r.PromptsTested < 3 {
			t.Errorf("%s: %d answered, %d errors", name, r.PromptsTested, r.Errors)
		}
		switch name {
		case "open loop":
			if r.Latency.Lag.N != 10 || r.Latency.ScheduledTTFT.N != 10 {
				t.Errorf("latency from the schedule: %+v", r.Latency.ScheduledTTFT)
			}
		case "full":
			if len(r.Cells) != 18 {
				t.Errorf("the full grid has %d cells", len(r.Cells))
			}
		case "stress":
			// Replies are long, so that the server is slower than the client. The fidelity tests with the stub check the number
			// in flight exactly.
			if r.Workload.Spec.Concurrency != 8 || r.Latency.MeanRequestsActive.V <= 1 {
				t.Errorf("stress: %d in flight asked for, %g seen", r.Workload.Spec.Concurrency, r.Latency.MeanRequestsActive.V)
			}
		}
	}
}

// TestReplayOtherTraffic: requests of another client make a run invalid.
func TestReplayOtherTraffic(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t)
	w := serve(t, srv.URL())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		for ctx.Err() == nil {
			w.post(ctx, "/v1/chat/completions", map[string]any{"messages": []map[string]string{{"role": "user", "content": "hello"}}, "max_tokens": 2})
		}
	}()
	got := wattline(t, "replay", "--endpoint", w.url, "--prompt-sizes", "100", "--output-tokens", "8")
	cancel()
	<-done
	if got.code != exitInvalid || !strings.Contains(got.stdout, "other traffic: ") || !strings.Contains(got.stdout, "INVALID") {
		t.Errorf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
}

// TestReplayMissedGoodput: objectives that are missed have an exit code, --quiet prints the results only, and the admin
// address of a configuration file that serve shares is understood as serve writes it.
func TestReplayMissedGoodput(t *testing.T) {
	t.Parallel()
	w := serve(t, llamatest.Start(t).URL())
	shared := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(shared, fmt.Appendf(nil, "admin: %q\n", strings.TrimPrefix(w.admin, "http://")), 0o600); err != nil {
		t.Fatal(err)
	}
	for objective, want := range map[string]int{"ttft:0.001": exitMissed, "ttft:600000": exitOK} {
		got := wattline(t, "--config", shared, "replay", "--endpoint", w.url, "--prompt-sizes", "100", "--output-tokens", "4", "--requests", "1", "--goodput", objective, "--quiet")
		if got.code != want || !strings.Contains(got.stdout, "Measured twice") || strings.Count(got.stderr, "\n") != min(want, 1) {
			t.Errorf("%s: exit %d, want %d\n%s\n%s", objective, got.code, want, got.stdout, got.stderr)
		}
		if want == exitMissed && !strings.Contains(got.stderr, "0 of 1 replies met the objectives") {
			t.Errorf("%s", got.stderr)
		}
	}
}

// TestReplayInterrupted: after Ctrl-C the results so far are written and printed.
func TestReplayInterrupted(t *testing.T) {
	t.Parallel()
	measured := make(chan struct{}, 1)
	url := tapped(t, llamatest.Start(t).URL(), func(r *http.Request, _ []byte) {
		if strings.Contains(r.Header.Get("X-Request-Id"), "-m-0-0-3") { // three requests have been answered
			select {
			case measured <- struct{}{}:
			default:
			}
		}
	})
	file := filepath.Join(t.TempDir(), "results.json")
	cmd := command(t, "replay", "--endpoint", url, "--prompt-sizes", "50", "--output-tokens", "16", "--duration", "600", "--json-out", file)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code is checked below
	}()
	select {
	case <-measured:
	case <-ended:
	case <-time.After(patience):
		t.Error("no request is measured")
	}
	for range 2 { // like timeout -s INT, which signals its child and its process group
		_ = cmd.Process.Signal(syscall.SIGINT)
	}
	<-ended
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(errs.String(), "interrupted") {
		t.Fatalf("exit %d\n%s\n%s", code, out.String(), errs.String())
	}
	if !strings.Contains(out.String(), "interrupted: these are the requests") {
		t.Errorf("nothing is said of the interruption:\n%s", out.String())
	}
	if r := readResults(t, file); !r.Workload.Interrupted || r.PromptsTested == 0 || r.Errors != 0 {
		t.Errorf("%d answered, %d errors, interrupted %v", r.PromptsTested, r.Errors, r.Workload.Interrupted)
	}
}

// TestReplayBadInput: wrong input gives one line and an exit code, and existing results are not overwritten.
func TestReplayBadInput(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t, "-np", "1", "-c", "256")
	refusing := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() { // ends with the listener
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	file := filepath.Join(t.TempDir(), "results.json")
	const precious = `{"an":"earlier result"}`
	if err := os.WriteFile(file, []byte(precious), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--task", "poetry"}, exitUsage, "there are: " + strings.Join(prompt.Tasks(), ", ")},
		{[]string{"--prompt-sizes", "128K"}, exitUsage, "write 128k for 128000 tokens or 131072"},
		{[]string{"--output-tokens", "many"}, exitUsage, "is no number of tokens"},
		{[]string{"--rate", "2", "--concurrency", "2"}, exitUsage, "give one of them"},
		{[]string{"--goodput", "speed:3"}, exitUsage, "write ttft:500"},
		{[]string{"--full", "--stress"}, exitUsage, "exclude each other"},
		{[]string{"--requests", "1000000000000"}, exitUsage, "at most 1000000 requests"},
		{[]string{"--rate", "NaN"}, exitUsage, "rate and burstiness are numbers"},
		{[]string{"--goodput", "ttft:NaN"}, exitUsage, "write ttft:500"},
		{[]string{"--json-out", filepath.Dir(file)}, exitUsage, "is a folder"},
		{[]string{"--out", filepath.Join(file, "run")}, exitUsage, "cannot write there"},
		{[]string{"--cache", "lukewarm"}, exitUsage, "cold, warm, natural"},
		{[]string{"--duration", "soon"}, exitUsage, "is no time"},
		{[]string{"--config-file", filepath.Join("testdata", "none.yaml")}, exitUsage, "none.yaml"},
		{[]string{"--endpoint", "127.0.0.1:80"}, exitUsage, "write it as http://HOST:PORT"},
		{[]string{"--endpoint", "http://127.0.0.1:1"}, exitFailed, "no server answers"},
		{[]string{"--endpoint", refusing(401, "{}")}, exitFailed, "--api-key-file"},
		{[]string{"--endpoint", refusing(404, "not found")}, exitFailed, "not a llama-server"},
		{[]string{"--endpoint", refusing(200, "<html>")}, exitFailed, "not llama-server's JSON"},
		{[]string{"--endpoint", "http://" + closing.Addr().String()}, exitFailed, "closed the connection without an answer"},
		{[]string{"--endpoint", srv.URL()}, exitFailed, "context of 256 tokens a slot"},
		{[]string{"--endpoint", srv.URL(), "--admin", "http://127.0.0.1:1", "--prompt-sizes", "50", "--output-tokens", "4"}, exitFailed, "--admin"},
		{[]string{"--endpoint", srv.URL(), "--prompt-sizes", "5", "--output-tokens", "4"}, exitFailed, "too small"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"--config", os.DevNull, "replay", "--json-out", file}, c.args...), &out, &errs)
		got := ended{code, out.String(), errs.String()}
		if got.code != c.code || !strings.Contains(got.stderr, c.says) || strings.Contains(got.stderr, "goroutine") || got.stdout != "" && c.code == exitFailed {
			t.Errorf("%v: exit %d, want %d and %q\n%s\n%s", c.args, got.code, c.code, c.says, got.stdout, got.stderr)
		}
		if text, _ := os.ReadFile(file); string(text) != precious {
			t.Fatalf("%v wrote over an existing result: %.80s", c.args, text)
		}
	}
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t)
	w := serve(t, srv.URL())
	got := wattline(t, "check", "--endpoint", w.url)
	if got.code != exitOK || strings.Contains(got.stdout, "FAIL") || strings.Count(got.stdout, "\n") != 7 {
		t.Errorf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	for _, want := range []string{"ok    server", "ok    models endpoint", "ok    basic completion", "ok    small benchmark", "ok    measured in line", "--    GPU metrics", "--    tokens per watt"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no line %q in\n%s", want, got.stdout)
		}
	}
	direct := wattline(t, "check", "--endpoint", srv.URL())
	if direct.code != exitOK || !strings.Contains(direct.stdout, "--    measured in line") {
		t.Errorf("without wattline in between: exit %d\n%s\n%s", direct.code, direct.stdout, direct.stderr)
	}
	gone := wattline(t, "check", "--endpoint", "http://127.0.0.1:1")
	if gone.code != exitFailed || !strings.HasPrefix(gone.stdout, "FAIL  server") {
		t.Errorf("no server: exit %d\n%s", gone.code, gone.stdout)
	}
}

// TestReportCommand: a report of two folders, in each format.
func TestReportCommand(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t)
	w := serve(t, srv.URL())
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if got := wattline(t, "replay", "--endpoint", w.url, "--prompt-sizes", "100", "--output-tokens", "8", "--out", a); got.code != exitOK {
		t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	if err := os.CopyFS(b, os.DirFS(a)); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "report.html")
	for format, want := range map[string]string{"terminal": "=== b", "markdown": "| Configuration | Tokens/sec | tokens/W | tokens/J | Latency | VRAM |", "llama-bench": "pp100"} {
		got := wattline(t, "report", a, b, "--format", format, "--html", page)
		if got.code != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: exit %d\n%s\n%s", format, got.code, got.stdout, got.stderr)
		}
	}
	if info, err := os.Stat(page); err != nil || info.Size() < 100_000 {
		t.Errorf("the page: %v (%v)", info, err)
	}
	for says, args := range map[string][]string{"need 2 labels": {a, b, "--label", "one"}, "holds no run": {dir}} {
		if got := wattline(t, append([]string{"report"}, args...)...); got.code == exitOK || !strings.Contains(got.stderr, says) {
			t.Errorf("%v: exit %d\n%s", args, got.code, got.stderr)
		}
	}
	if got := wattline(t, "replay", "--endpoint", w.url, "--out", a); got.code != exitUsage || !strings.Contains(got.stderr, "holds a run already") {
		t.Errorf("--out over a run: exit %d\n%s", got.code, got.stderr)
	}
}

// TestDemo: the whole demo with --exit: server, wattline, rows, the quick benchmark with its report and page.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := wattline(t, "demo", "--exit", "--store", filepath.Join(dir, "demo.db"))
	if got.code != exitOK {
		t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	at := 0
	for _, want := range []string{"weights are random", "wattline requests", "first token (ttft)", "wattline replay", "Measured twice: ", "By the guide:", "The same with charts: "} {
		i := strings.Index(got.stdout[at:], want)
		if i < 0 {
			t.Fatalf("no %q behind %d in\n%s", want, at, got.stdout)
		}
		at += i
	}
	pages, err := filepath.Glob(filepath.Join(dir, "demo-*", "report.html"))
	if err != nil || len(pages) != 1 {
		t.Errorf("pages %v (%v)", pages, err)
	}
}
