package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

// measured returns the row of a streamed request with all columns.
func measured(id string, at time.Time) *meter.Record {
	s := meter.Some
	return &meter.Record{
		ID: id, StartedAt: at, Instance: "host", Method: "POST", Path: "/v1/chat/completions", Dialect: "chat", Model: "tiny",
		Stream: s(1), Status: s(200), Outcome: meter.OK, FinishReason: "stop", Agent: "curl", Labels: map[string]string{"team": "blue", "env": "lab"},
		TTFBUs: s(12_000), TTFTUs: s(352_000), UpstreamTTFTUs: s(350_000), DurationUs: s(1_360_000),
		QueueUs: s(10_000), PrefillUs: s(340_000), DecodeUs: s(1_000_000), ProxyOverheadUs: s(150),
		PromptTokens: s(1000), CachedTokens: s(200), OutputTokens: s(101), TokenSource: meter.TokensFromTimings, MeanConcurrency: s(1000),
		GPUUj: s(202_000_000), GPUActiveUj: s(150_000_000), GPUIdleUj: s(52_000_000), GPUPrefillUj: s(40_000_000), GPUDecodeUj: s(110_000_000),
		GPUSigmaUj: s(3_000_000), EnergyQuality: meter.EnergyMeasured, PricePerKWhMicro: s(300_000), GCO2PerKWhMilli: s(400_000),
	}
}

// unmetered returns the row of a request that failed before anything was measured.
func unmetered(id string, at time.Time) *meter.Record {
	return &meter.Record{ID: id, StartedAt: at, Instance: "host", Method: "GET", Path: "/health", Outcome: meter.UpstreamError, Status: meter.Some(502), EnergyQuality: meter.EnergyUnavailable}
}

func storeOf(t *testing.T, rows sink.Rows) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wattline.db")
	s, err := store.Open(context.Background(), store.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(context.Background(), &rows); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// output runs the program in this process and returns what it printed. It fails unless the exit code is code.
func output(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // serve would run for ever if it did not refuse
	defer cancel()
	if got := run(ctx, args, &out, &errs); got != code {
		t.Fatalf("wattline %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func TestRequestsJSON(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Microsecond)
	older, newer := measured("0199-aaaa", at.Add(-time.Minute)), unmetered("0199-bbbb", at)
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{older, newer}})
	out, _ := output(t, 0, "requests", "--json", "--store", db)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, want := range []*meter.Record{newer, older} {
		got := new(meter.Record)
		if err := json.Unmarshal([]byte(lines[i]), got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	if out, _ = output(t, 0, "requests", "--json", "--limit", "1", "--store", db); strings.Count(out, "\n") != 1 || !strings.Contains(out, "bbbb") {
		t.Errorf("--limit 1 printed %s", out)
	}
}

func TestRequestsTable(t *testing.T) {
	at := time.Now()
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("0199-aaaa", at.Add(-time.Minute)), unmetered("0199-bbbb", at)}})
	if out, _ := output(t, 0, "requests", "--store", db); strings.Contains(out, "bbbb") || !strings.Contains(out, "aaaa") {
		t.Errorf("housekeeping is listed:\n%s", out)
	}
	out, _ := output(t, 0, "requests", "--all", "--store", db)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("want a heading and two rows:\n%s", out)
	}
	want := strings.Fields("199-bbbb - /health upstream_error 502 - - - - - - - unavailable")
	if got := strings.Fields(lines[1])[2:]; !cmp.Equal(got, want) {
		t.Errorf("the row of an unmetered request: %q", got)
	}
	for _, want := range []string{"352 ms", "1000 ms", "202 ± 3 J", "tiny"} {
		if !strings.Contains(lines[2], want) {
			t.Errorf("no %q in %q", want, lines[2])
		}
	}
}

func TestWaterfall(t *testing.T) {
	at := time.Now()
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("0199-aaaa", at), unmetered("0199-bbbb", at)}})
	out, _ := output(t, 0, "requests", "aaaa", "--store", db)
	for _, want := range []string{
		"queue", "S - P1", "10 ms", "prefill", "340 ms", "decode", "Tn - T1", "1000 ms", "W1 - P0", "352 ms", "E - P0", "1360 ms",
		"team=blue", "tokens_per_watt", "joules_per_token", "(Tn - T1)/(n - 1)",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// 60 cells are 1360 ms: the queue's 10 ms lie in cell 0, prefill goes to 352 ms, decode to 1352 ms.
	for name, want := range map[string]string{"queue ": "  |", "prefill ": "  " + strings.Repeat("█", 15), "decode ": strings.Repeat(" ", 17) + strings.Repeat("█", 44)} {
		for line := range strings.SplitSeq(out, "\n") {
			if strings.HasPrefix(line, name) && !strings.HasSuffix(line, "ms"+want) {
				t.Errorf("%s is drawn as %q", name, line)
			}
		}
	}
	if out, _ = output(t, 0, "requests", "0199-bbbb", "--store", db); !strings.Contains(out, "unavailable") || strings.Contains(out, "█") {
		t.Errorf("a request without times must be shown without bars:\n%s", out)
	}
}

// TestWaterfallClipping: a phase that is computed to end after the request is drawn up to the request's end.
func TestWaterfallClipping(t *testing.T) {
	at := time.Now()
	streamed, whole := measured("0199-aaaa", at), measured("0199-bbbb", at)
	streamed.DurationUs = meter.Some(1_351_000) // 1 ms less than ttft + decode
	whole.Stream, whole.TTFTUs, whole.UpstreamTTFTUs = meter.Some(0), meter.Int{}, meter.Int{}
	whole.DecodeUs, whole.PrefillUs = meter.Some(1_360_500), meter.Some(100)
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{streamed, whole}})
	for id, want := range map[string]string{"aaaa": strings.Repeat(" ", 17) + strings.Repeat("█", 45), "bbbb": "  " + strings.Repeat("█", 60)} {
		out, _ := output(t, 0, "requests", id, "--store", db)
		drawn := false
		for line := range strings.SplitSeq(out, "\n") {
			drawn = drawn || strings.HasPrefix(line, "decode ") && strings.HasSuffix(line, "ms"+want)
		}
		if !drawn {
			t.Errorf("decode of %s is not drawn as %q in\n%s", id, want, out)
		}
	}
}

func TestRequestsErrors(t *testing.T) {
	at := time.Now()
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("0199-aaaa", at), unmetered("0199-bbbb", at)}})
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "no request in", []string{"requests", "zzzz", "--store", db}},
		{1, "several requests match", []string{"requests", "0199", "--store", db}},
		{1, "start `wattline serve`", []string{"requests", "--store", db + ".missing"}},
		{2, "--limit", []string{"requests", "--limit", "0", "--store", db}},
	} {
		if _, errs := output(t, c.code, c.args...); !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %q", c.args, errs)
		}
	}
}

// brokenOutput fails like a full disk after room bytes.
type brokenOutput struct{ room int }

func (b *brokenOutput) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestOutputErrors: a command fails if its output cannot be written.
func TestOutputErrors(t *testing.T) {
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("0199-aaaa", time.Now())}})
	for _, args := range [][]string{
		{"requests"}, {"requests", "--json"}, {"requests", "aaaa"}, {"usage"}, {"usage", "--json"}, {"export"}, {"export", "--format", "jsonl"},
		{"query", "SELECT id FROM requests"}, {"query", "SELECT id FROM requests", "--format", "csv"}, {"query", "SELECT id FROM requests", "--format", "json"}, {"query", "--list"}, {"query", "--name", "idle", "--show"},
	} {
		var errs bytes.Buffer
		if code := run(t.Context(), append(args, "--store", db), new(brokenOutput), &errs); code != 1 || !strings.Contains(errs.String(), "no space left") || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
}

func TestExport(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Microsecond)
	recs := []*meter.Record{measured("0199-aaaa", at.Add(-48*time.Hour)), unmetered("0199-bbbb", at)}
	db := storeOf(t, sink.Rows{Requests: recs})
	out, _ := output(t, 0, "export", "--format", "jsonl", "--store", db)
	if n := strings.Count(out, "\n"); n != 2 {
		t.Errorf("%d lines for 2 rows", n)
	}
	out, _ = output(t, 0, "export", "--since", "1d", "--store", db)
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || len(rows[0]) != len(meter.Columns()) {
		t.Fatalf("%d lines of %d fields", len(rows), len(rows[0]))
	}
	for i, c := range meter.Columns() {
		if rows[0][i] != c.Name || (rows[1][i] == "") != c.Null(recs[1]) {
			t.Errorf("column %s is exported as %s = %q", c.Name, rows[0][i], rows[1][i])
		}
	}
}

func TestVersionFlag(t *testing.T) {
	flag, _ := output(t, exitOK, "--version")
	if said, _ := output(t, exitOK, "version"); flag != said || !strings.HasPrefix(said, "wattline ") {
		t.Errorf("%q and %q", flag, said)
	}
}

// TestRequestsFilters: each flag chooses requests.
func TestRequestsFilters(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Microsecond)
	a, b, c := measured("0199-aaaa", at.Add(-time.Hour)), measured("0199-bbbb", at.Add(-time.Minute)), unmetered("0199-cccc", at)
	a.Session, b.Agent, b.Model, b.DurationUs = "s1", "opencode", "big", meter.Some(60_000_000)
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{a, b, c}})
	for _, f := range []struct {
		args string
		want string
	}{
		{"--since 10m", "cb"}, {"--agent opencode", "b"}, {"--session s1", "a"}, {"--model tiny", "a"}, {"--outcome upstream_error", "c"}, {"--outcome ok", "ba"},
		{"--slower-than 1360ms", "b"}, {"--slower-than 1359ms", "ba"}, {"--since 30m --outcome ok --limit 5", "b"}, {"--model none", ""},
	} {
		out, errs := output(t, 0, append([]string{"requests", "--json", "--store", db}, strings.Fields(f.args)...)...)
		got := ""
		for line := range strings.Lines(out) {
			rec := new(meter.Record)
			if err := json.Unmarshal([]byte(line), rec); err != nil {
				t.Fatal(err)
			}
			got += rec.ID[len(rec.ID)-1:]
		}
		if got != f.want {
			t.Errorf("%s lists %q, not %q; %s", f.args, got, f.want, errs)
		}
	}
	if _, errs := output(t, 0, "requests", "--model", "none", "--store", db); !strings.Contains(errs, "No request in") {
		t.Errorf("nothing found says %q", errs)
	}
	for _, wrong := range []string{"--outcome bad", "--slower-than -1s", "--since nix", "0199 --model tiny", "0199 --follow"} {
		if _, errs := output(t, exitUsage, append([]string{"requests", "--store", db}, strings.Fields(wrong)...)...); strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %q", wrong, errs)
		}
	}
}

// lines sends on each line that is written to it.
type lines struct{ next chan string }

func (l *lines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l.next <- line
	}
	return len(p), nil
}

// TestRequestsFollow: a request is listed once, when its row is final, whichever it was started; a signal ends it well.
func TestRequestsFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "wattline.db")
	s, err := store.Open(t.Context(), store.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(rows sink.Rows) {
		t.Helper()
		if err := s.Write(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
	}
	pending := measured("0199-pppp", time.Now())
	pending.EnergyQuality = meter.EnergyPending
	write(sink.Rows{Requests: []*meter.Record{measured("0199-aaaa", time.Now()), pending}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, ended := &lines{make(chan string, 10)}, make(chan int)
	go func() { ended <- run(ctx, []string{"requests", "--follow", "--json", "--store", path}, out, out) }()
	expect := func(id string) {
		t.Helper()
		select {
		case line := <-out.next:
			if !strings.Contains(line, id) {
				t.Fatalf("%s instead of %s", line, id)
			}
		case <-ctx.Done():
			t.Fatalf("%s is not listed", id)
		}
	}
	expect("0199-aaaa")
	write(sink.Rows{Requests: []*meter.Record{measured("0199-bbbb", time.Now().Add(-time.Hour))}})
	expect("0199-bbbb")
	pending.EnergyQuality = meter.EnergyShared
	write(sink.Rows{Settled: []*meter.Record{pending}})
	expect("0199-pppp")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}
