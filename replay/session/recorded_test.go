package session

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/trace"
)

// sendTrace sends a trace to a server and returns the run and what the user was told.
func sendTrace(t *testing.T, endpoint string, from *trace.Trace, most int, o trace.Options) (*replay.Run, string) {
	t.Helper()
	var mu sync.Mutex
	said := ""
	cfg := Config{
		Endpoint: endpoint, Agent: "test", Trace: from, TraceOptions: o, NoWarmup: true, Spec: replay.Spec{Name: "trace", Trace: from.File, Concurrency: most},
		Log: slog.New(slog.DiscardHandler), Say: func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			said += fmt.Sprintf(format, args...) + "\n"
		},
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	run, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return run, said
}

func readTrace(t *testing.T, path string) *trace.Trace {
	t.Helper()
	out, err := trace.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// byIndex are a run's requests in the order of the trace.
func byIndex(run *replay.Run) []*replay.Exchange {
	out := slices.Clone(run.Exchanges)
	slices.SortFunc(out, func(a, b *replay.Exchange) int { return a.Index - b.Index })
	return out
}

// mustPass fails unless these checks passed.
func mustPass(t *testing.T, what string, run *replay.Run, names ...string) {
	t.Helper()
	for _, c := range run.Check() {
		if slices.Contains(names, c.Name) && c.State != replay.Passed {
			t.Errorf("%s: %+v", what, c)
		}
	}
}

// TestRecordedTraces: small files of every format, sent to a real server: each prompt and each reply has exactly the
// trace's tokens, by the server's own count.
func TestRecordedTraces(t *testing.T) {
	srv := llamatest.Start(t, "-np", "4", "-c", "32768", "--threads-http", "32")
	for _, file := range []string{"mooncake.jsonl", "azure2023.csv", "azure2024.csv", "burstgpt.csv", "burstgpt-sessions.csv", "weka.jsonl", "wattline.jsonl"} {
		from := readTrace(t, filepath.Join("..", "trace", "testdata", file))
		kinds := []string{replay.RecordedReplies}
		if from.Sessions() < len(from.Records) {
			kinds = append(kinds, replay.RealReplies)
		}
		for _, replies := range kinds {
			what := file + ", " + replies
			run, said := sendTrace(t, srv.URL(), from, 0, trace.Options{Speed: 100, Replies: replies})
			mustPass(t, what, run, "prompt tokens", "output tokens", "errors", "server")
			if len(run.Exchanges) != len(from.Records) {
				t.Errorf("%s: %d requests, want %d\n%s", what, len(run.Exchanges), len(from.Records), said)
			}
			r := run.Results()
			if rec := r.Workload.Recording; rec == nil || rec.SHA256 != from.SHA256 || rec.Sent != len(from.Records) || rec.Replies != replies {
				t.Errorf("%s: the results say %+v", what, rec)
			}
			cancelled := 0
			for _, e := range run.Exchanges {
				if e.Cancelled {
					cancelled++
				}
				if !e.LagUs.Valid || !e.ShiftUs.Valid {
					t.Errorf("%s: request %d has no lateness", what, e.Index)
				}
			}
			if r.Errors != 0 || cancelled > 1 || cancelled == 1 && file != "wattline.jsonl" {
				t.Errorf("%s: %d errors, %d cancelled", what, r.Errors, cancelled)
			}
		}
	}
}

// TestRealReplies: with --replies real a turn begins with the earlier prompt and the very reply, so the server reuses both;
// with stand-ins it reuses the prompt only. A second replay finds nothing of the first in the cache.
func TestRealReplies(t *testing.T) {
	srv := llamatest.Start(t, "-np", "1", "-c", "8192")
	from := &trace.Trace{File: "made", Format: "wattline", BlockTokens: 32, Clock: trace.Clock{Unit: "us", First: "0"}}
	const first, output, more = 500, 40, 90
	for turn := range 6 {
		r := trace.Record{Offset: time.Duration(turn) * time.Millisecond, Input: first + turn*(output+more), Output: output, Session: 1, Turn: turn + 1, Parent: turn - 1}
		for k := 0; 32*k < r.Input; k++ {
			r.Blocks = append(r.Blocks, trace.Block{ID: uint32(k + 1), Tokens: uint32(min(32, r.Input-32*k))}) //nolint:gosec // small
		}
		if turn > 0 {
			r.ThinkUs = meter.Some(2000)
		}
		from.Records = append(from.Records, r)
	}
	for _, replies := range []string{replay.RealReplies, replay.RecordedReplies, replay.RealReplies} {
		run, _ := sendTrace(t, srv.URL(), from, 0, trace.Options{Replies: replies})
		mustPass(t, replies, run, "prompt tokens", "output tokens", "errors")
		for i, e := range byIndex(run) {
			least, most := int64(0), int64(4)
			if i > 0 {
				before := int64(from.Records[i-1].Input)
				least, most = before-1, before+2
				if replies == replay.RealReplies {
					least, most = before+output-1, before+output
				}
			}
			if e.CacheN.V < least || e.CacheN.V > most {
				t.Errorf("%s: turn %d of %d tokens reused %d, want %d to %d", replies, i+1, from.Records[i].Input, e.CacheN.V, least, most)
			}
		}
	}
}

// TestReplanTrace: the points of a sweep send the same records, and texts that no earlier point left in the server's cache.
func TestReplanTrace(t *testing.T) {
	url := startStub(t, stub.Config{HeaderDelay: -1, FirstToken: time.Millisecond, TokenGap: time.Millisecond})
	from := &trace.Trace{File: "made"}
	for i := range 40 {
		from.Records = append(from.Records, trace.Record{Offset: time.Duration(i) * time.Millisecond, Input: 50 + i, Output: 2, Parent: -1})
	}
	s, err := Open(t.Context(), Config{
		Endpoint: url, Agent: "test", Trace: from, TraceOptions: trace.Options{Sample: 0.2}, Spec: replay.Spec{Name: "trace", Trace: from.File},
		Log: slog.New(slog.DiscardHandler), Say: func(string, ...any) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lengths, texts := "", map[string]bool{}
	for point := range 3 {
		if err := s.Replan(t.Context(), replay.Spec{Name: "trace", Trace: from.File, Concurrency: point + 1, Seed: uint64(point + 1)}, false); err != nil { //nolint:gosec // small
			t.Fatal(err)
		}
		got := ""
		for i := range s.recorded.records {
			got += fmt.Sprint(s.recorded.records[i].Input, " ")
		}
		if lengths == "" {
			lengths = got
		}
		if got != lengths {
			t.Errorf("point %d sends prompts of %s, the first sent %s", point, got, lengths)
		}
		texts[s.recorded.make(0, nil).Raw.Text] = true
	}
	if len(texts) != 3 {
		t.Errorf("3 points have %d texts", len(texts))
	}
}

// TestRecordedCancel: a client leaves when the trace's did; that is no error, and no answer.
func TestRecordedCancel(t *testing.T) {
	url := startStub(t, stub.Config{HeaderDelay: -1, FirstToken: 300 * time.Millisecond, TokenGap: 5 * time.Millisecond})
	from := &trace.Trace{File: "made", Records: []trace.Record{
		{Input: 50, Output: 200, Parent: -1, CancelUs: meter.Some(100_000)},                        // before its first token
		{Input: 50, Output: 200, Parent: -1, CancelUs: meter.Some(600_000)},                        // while it is answered
		{Input: 50, Output: 3, Parent: -1, CancelUs: meter.Some(30_000_000)},                       // after its end: answered
		{Input: 50, Output: 3, Parent: -1, CancelUs: meter.Some(100_000), Unstreamed: true},        // before any reply
		{Input: 80, Output: 3, Parent: 0, Session: 1, Offset: time.Second, ThinkUs: meter.Some(0)}, // goes on after the cancelled one
	}}
	run, _ := sendTrace(t, url, from, 0, trace.Options{Replies: replay.RealReplies})
	var got []string
	for _, e := range byIndex(run) {
		got = append(got, fmt.Sprintf("%t %t %q", e.Cancelled, e.OK(), e.Error))
		if e.Cancelled && (!e.EndUs.Valid || e.EndUs.V < from.Records[e.Index].CancelUs.V || e.EndUs.V > from.Records[e.Index].CancelUs.V+200_000) {
			t.Errorf("request %d ended after %d us", e.Index, e.EndUs.V)
		}
	}
	if want := `[true false "" true false "" false true "" true false "" false true ""]`; fmt.Sprint(got) != want {
		t.Errorf("cancelled, answered, error: %s", got)
	}
	if r := run.Results(); r.Errors != 0 || r.PromptsTested != 2 {
		t.Errorf("%d errors, %d answered", r.Errors, r.PromptsTested)
	}
}

func startStub(t *testing.T, cfg stub.Config) string {
	t.Helper()
	srv := stub.New(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String()
}

// heapEvery notes the live heap each time so many requests have been sent.
type heapEvery struct {
	load.Sender
	n    int
	mu   sync.Mutex
	sent int
	heap []uint64
}

func (h *heapEvery) Send(ctx context.Context, r *replay.Request) *replay.Exchange {
	h.mu.Lock()
	if h.sent++; h.sent%h.n == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		h.heap = append(h.heap, m.HeapAlloc)
	}
	h.mu.Unlock()
	return h.Sender.Send(ctx, r)
}

func (h *heapEvery) Prepare(r *replay.Request) { h.Sender.(*client.Client).Prepare(r) }

// TestManyRecords sends a long trace at 20 times its speed: 10,000 records with WATTLINE_SOAK, else 400. No delay adds up,
// and memory grows by the results alone.
func TestManyRecords(t *testing.T) {
	n := 400
	if os.Getenv("WATTLINE_SOAK") != "" {
		n = 10_000
	}
	url := startStub(t, stub.Config{HeaderDelay: -1, FirstToken: 2 * time.Millisecond, TokenGap: time.Millisecond, PingInterval: -1, Slots: 64})
	from := &trace.Trace{File: "made", BlockTokens: 512}
	r := rand.New(rand.NewPCG(1, 2))
	var at time.Duration
	for i := range n {
		rec := trace.Record{Offset: at, Input: 200 + r.IntN(8000), Output: 1 + r.IntN(20), Parent: -1}
		for k := 0; 512*k < rec.Input; k++ {
			rec.Blocks = append(rec.Blocks, trace.Block{ID: uint32(100*i + k + 1), Tokens: uint32(min(512, rec.Input-512*k))}) //nolint:gosec // small
		}
		from.Records = append(from.Records, rec)
		at += time.Duration(r.ExpFloat64() * 0.2 * 1e9) // 100 a second at 20 times the speed
	}
	s, err := Open(t.Context(), Config{
		Endpoint: url, Agent: "test", Trace: from, TraceOptions: trace.Options{Speed: 20}, NoWarmup: true,
		Spec: replay.Spec{Name: "trace", Trace: from.File}, Log: slog.New(slog.DiscardHandler), Say: func(string, ...any) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg := s.loadConfig()
	heap := &heapEvery{Sender: cfg.Sender, n: n / 4}
	cfg.Sender = heap
	run, err := load.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	list := byIndex(run)
	if len(list) != n || run.Results().Errors != 0 {
		t.Fatalf("%d requests, %d errors", len(list), run.Results().Errors)
	}
	begin := list[0].ScheduledAt
	var lags []int64
	off := make([]time.Duration, n) // when each was really sent, after the moment that the trace says
	for i, e := range list {
		lags = append(lags, e.LagUs.V)
		off[i] = e.StartedAt.Sub(begin.Add(from.Records[i].Offset / 20))
	}
	if early := slices.Min(off); early < -time.Millisecond {
		t.Errorf("a request was sent %v early", -early)
	}
	if end := slices.Sorted(slices.Values(off[n-n/100:])); os.Getenv("WATTLINE_SOAK") != "" && end[len(end)/2] > 20*time.Millisecond { // a delay of 10 us a request would be 100 ms
		t.Errorf("half of the last requests were sent more than %v late", end[len(end)/2])
	}
	slices.Sort(lags)
	last := list[n-1]
	perRecord := float64(int64(heap.heap[3])-int64(heap.heap[0])) / float64(n*3/4) //nolint:gosec // bytes
	t.Logf("%d records in %v at 20x: sent late by p50 %d us, p99 %d us, at most %d us; the last by %d us; heap after each quarter %d KB, %.0f bytes a record",
		n, last.StartedAt.Sub(list[0].StartedAt).Round(time.Millisecond), lags[n/2], lags[n*99/100], lags[n-1], last.LagUs.V, kilobytes(heap.heap), perRecord)
	const results = 3000 // bytes; an exchange and its gaps. A prompt has 16 KB on average
	if perRecord > results {
		t.Errorf("memory grows by %.0f bytes a record", perRecord)
	}
	if os.Getenv("WATTLINE_SOAK") != "" && lags[n/2] > 2000 { // beside other tests the machine is busy
		t.Errorf("half of the requests were sent more than %d us late", lags[n/2])
	}
}

func kilobytes(b []uint64) (out []uint64) {
	for _, v := range b {
		out = append(out, v>>10)
	}
	return out
}

// TestSoakPublicTraces sends a tenth of the sessions of ten minutes of each public trace to the small model, at ten times
// their speed and clipped to its context. WATTLINE_TRACES is the folder that holds them.
func TestSoakPublicTraces(t *testing.T) {
	dir := os.Getenv("WATTLINE_TRACES")
	if os.Getenv("WATTLINE_SOAK") == "" || dir == "" {
		t.Skip("WATTLINE_SOAK=1 WATTLINE_TRACES=FOLDER sends the public traces in it")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no trace in %s (%v)", dir, err)
	}
	srv := llamatest.Start(t, "-np", "4", "-c", "8192", "--threads-http", "512", "--threads", "2")
	for _, file := range files {
		began := time.Now()
		run, said := sendTrace(t, srv.URL(), readTrace(t, file), 0, trace.Options{Speed: 10, To: 10 * time.Minute, Fit: trace.Clip, Sample: 0.1})
		mustPass(t, file, run, "prompt tokens", "output tokens", "errors", "server")
		r := run.Results()
		var cached, in int64
		for _, e := range run.Exchanges {
			cached, in = cached+e.CacheN.V, in+e.CacheN.V+e.PromptN.V
		}
		if sent := r.Workload.Recording.Sent; sent == 0 || len(run.Exchanges) != sent {
			t.Errorf("%s: %d requests, want %d", file, len(run.Exchanges), sent)
		}
		if strings.HasPrefix(filepath.Base(file), "mooncake") && cached == 0 {
			t.Errorf("%s: nothing was reused, though its prompts share blocks", file)
		}
		t.Logf("%s: %d sent, %d errors, %v, lag p50 %.2f p99 %.2f ms, ttft p50 %.1f ms, %d of %d prompt tokens reused\n%s", filepath.Base(file), len(run.Exchanges), r.Errors,
			time.Since(began).Round(time.Second), r.Latency.Lag.P50.Value.V, r.Latency.Lag.P99.Value.V, r.Latency.TTFT.P50.Value.V, cached, in, strings.TrimSpace(said))
	}
}
