package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// server answers in fake time: a prompt takes perToken a token, a reply gap a token.
type server struct {
	perToken, gap time.Duration
	fail          func(*replay.Request) bool

	mu       sync.Mutex // guards what follows
	sent     []*replay.Request
	at       []time.Time
	inFlight int
	most     int
	events   int64
}

func (s *server) Send(ctx context.Context, r *replay.Request) *replay.Exchange {
	start := time.Now()
	s.mu.Lock()
	s.sent, s.at = append(s.sent, r), append(s.at, start)
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	s.mu.Unlock()
	ex := &replay.Exchange{Key: r.Key, Warmup: r.Warmup, Cell: r.Cell, ScheduledAt: r.ScheduledAt, StartedAt: start, Status: 200}
	if !r.ScheduledAt.IsZero() {
		ex.LagUs = meter.Some(start.Sub(r.ScheduledAt).Microseconds())
	}
	ttft := time.Duration(r.Cell.PromptTokens) * s.perToken
	decode := time.Duration(r.Cell.OutputTokens-1) * s.gap
	if sleep(ctx, ttft+decode) != nil {
		ex.Error = "given up"
	}
	if s.fail != nil && s.fail(r) {
		ex.Error = "failed"
	}
	ex.TTFTUs, ex.LastUs, ex.EndUs = meter.Some(ttft.Microseconds()), meter.Some((ttft + decode).Microseconds()), meter.Some((ttft + decode).Microseconds())
	ex.OutputTokens, ex.PromptN, ex.CacheN = meter.Some(int64(r.Cell.OutputTokens)), meter.Some(int64(r.Cell.PromptTokens)), meter.Some(0)
	s.mu.Lock()
	s.inFlight--
	s.events += int64(r.Cell.OutputTokens)
	s.mu.Unlock()
	return ex
}

func (s *server) Events() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events
}

// texts makes prompts that say what they were made for.
type texts struct{}

func (texts) Make(_ context.Context, task string, n int, seed uint64) (string, error) {
	return fmt.Sprintf("%s %d %x", task, n, seed), nil
}

func plan(t *testing.T, s replay.Spec) *replay.Plan {
	t.Helper()
	s, err := s.Complete([]string{"coding", "list"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := replay.Compile(s, "corpus", 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// said collects what the user was told.
type said struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (s *said) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *said) has(text string) bool { return strings.Contains(strings.Join(s.lines, "\n"), text) }

func small(change func(*replay.Spec)) replay.Spec {
	s := replay.Spec{PromptSizes: replay.Sizes{100, 200}, OutputTokens: replay.Sizes{16}, Requests: 6}
	if change != nil {
		change(&s)
	}
	return s
}

func measured(s *server) (out []*replay.Request, at []time.Time) {
	for i, r := range s.sent {
		if !r.Warmup {
			out, at = append(out, r), append(at, s.at[i])
		}
	}
	return out, at
}

func TestClosedLoop(t *testing.T) {
	for _, n := range []int{1, 3, 8} {
		synctest.Test(t, func(t *testing.T) {
			srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
			run, err := Run(t.Context(), Config{Plan: plan(t, small(func(s *replay.Spec) { s.Concurrency, s.Requests = n, 24 })), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Slots: 4})
			if err != nil {
				t.Fatal(err)
			}
			sent, at := measured(srv)
			if len(run.Exchanges) != 48 || len(sent) != 48 || srv.most != n {
				t.Errorf("concurrency %d: %d exchanges, %d in flight at most", n, len(run.Exchanges), srv.most)
			}
			took := run.Spans[0].To.Sub(run.Spans[0].From)
			if one := run.Exchanges[0]; took < time.Duration(24/n)*time.Duration(one.EndUs.V)*time.Microsecond {
				t.Errorf("concurrency %d: 24 requests took %v", n, took)
			}
			for i := 1; i < n; i++ { // the first ones, a little apart
				if d := at[i].Sub(at[i-1]); d < rampStep || d > 2*rampStep {
					t.Errorf("concurrency %d: worker %d began %v after the one before", n, i, d)
				}
			}
		})
	}
}

func TestPlanIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Microsecond, gap: time.Microsecond}
		p := plan(t, small(func(s *replay.Spec) { s.Trials, s.Tasks = 3, []string{"coding", "list"} }))
		run, err := Run(t.Context(), Config{Plan: p, Sender: srv, Prompts: texts{}, Sleep: time.Sleep})
		if err != nil {
			t.Fatal(err)
		}
		seen, texts := map[replay.Key]bool{}, map[string]bool{}
		var order []int
		for _, r := range srv.sent {
			if r.Warmup {
				continue
			}
			if seen[r.Key] || texts[r.Prompt] {
				t.Errorf("%+v was sent twice", r.Key)
			}
			seen[r.Key], texts[r.Prompt] = true, true
			if !r.Forced || r.Cache != replay.Cold {
				t.Errorf("%+v: forced %v, cache %s", r.Key, r.Forced, r.Cache)
			}
			if r.Index == 0 {
				order = append(order, r.Key.Cell)
			}
		}
		if len(seen) != 3*4*6 || len(run.Spans) != 12 {
			t.Errorf("%d requests in %d spans", len(seen), len(run.Spans))
		}
		for i, cell := range order {
			if want := p.Order[i/4][i%4]; cell != want {
				t.Errorf("cell %d ran as number %d, want %d", cell, i, want)
			}
		}
	})
}

func TestWarmUpWidths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		run, err := Run(t.Context(), Config{Plan: plan(t, small(func(s *replay.Spec) { s.Concurrency = 5 })), Sender: srv, Prompts: texts{}, Sleep: time.Sleep})
		if err != nil {
			t.Fatal(err)
		}
		ends := map[int64]bool{}
		for _, e := range run.Warmups[len(run.Warmups)-5:] {
			ends[e.EndUs.V] = true
		}
		if len(ends) != 5 {
			t.Errorf("%d of five concurrent throw-away requests ended at moments of their own", len(ends))
		}
		for _, e := range run.Exchanges {
			if e.Warmup {
				t.Error("a throw-away request is among the measured ones")
			}
		}
	})
}

func TestOpenLoop(t *testing.T) {
	for _, kind := range []replay.Arrival{replay.Poisson, replay.Constant, replay.Gamma} {
		synctest.Test(t, func(t *testing.T) {
			srv := &server{perToken: 10 * time.Millisecond, gap: 10 * time.Millisecond} // slower than the arrivals
			p := plan(t, small(func(s *replay.Spec) { s.Rate, s.Arrival, s.Requests, s.Burstiness = 20, kind, 50, 2 }))
			run, err := Run(t.Context(), Config{Plan: p, Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Slots: 4})
			if err != nil {
				t.Fatal(err)
			}
			sent, at := measured(srv)
			for cell := range 2 {
				offsets := Schedule(p, 0, cell, 0)
				if len(offsets) != 50 {
					t.Fatalf("%d arrivals", len(offsets))
				}
				i := 0
				var begin time.Time
				for j, r := range sent {
					if r.Key.Cell != cell {
						continue
					}
					if i == 0 {
						begin = at[j]
					}
					if got := at[j].Sub(begin); (got - offsets[i]).Abs() > 100*time.Microsecond {
						t.Errorf("%s: request %d was sent at %v, scheduled at %v", kind, i, got, offsets[i])
					}
					i++
				}
			}
			if srv.most < 10 {
				t.Errorf("%s: %d in flight at most: the loop waited for replies", kind, srv.most)
			}
			for _, e := range run.Exchanges {
				if !e.LagUs.Valid || e.LagUs.V < 0 {
					t.Errorf("lag %v", e.LagUs)
				}
			}
		})
	}
}

func TestScheduleRateAndBurstiness(t *testing.T) {
	for _, c := range []struct {
		kind       replay.Arrival
		burstiness float64
		cv2        float64
	}{{replay.Constant, 1, 0}, {replay.Poisson, 1, 1}, {replay.Gamma, 0.25, 0.25}, {replay.Gamma, 4, 4}} {
		p := plan(t, small(func(s *replay.Spec) { s.Rate, s.Arrival, s.Requests, s.Burstiness = 50, c.kind, 20000, c.burstiness }))
		at := Schedule(p, 0, 0, 0)
		var sum, squares float64
		for i := 1; i < len(at); i++ {
			g := (at[i] - at[i-1]).Seconds()
			sum += g
			squares += g * g
		}
		n := float64(len(at) - 1)
		mean := sum / n
		cv2 := (squares/n - mean*mean) / (mean * mean)
		if math.Abs(mean*50-1) > 0.05 || math.Abs(cv2-c.cv2) > 0.1*max(c.cv2, 0.01) {
			t.Errorf("%s %g: mean gap %g s, squared coefficient of variation %g, want %g and %g", c.kind, c.burstiness, mean, cv2, 1.0/50, c.cv2)
		}
		again := Schedule(p, 0, 0, 0)
		if at[777] != again[777] || at[777] == Schedule(p, 1, 0, 0)[777] && c.cv2 > 0 {
			t.Errorf("%s: the schedule does not follow from plan, trial and cell", c.kind)
		}
	}
}

func TestDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		s := small(func(s *replay.Spec) { s.Duration, s.Concurrency = replay.Seconds(20*time.Second), 2 })
		run, err := Run(t.Context(), Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep})
		if err != nil {
			t.Fatal(err)
		}
		for _, sp := range run.Spans { // two cells, ten seconds each, and what was in flight then
			if d := sp.To.Sub(sp.From); d < 10*time.Second || d > 10500*time.Millisecond {
				t.Errorf("a cell ran for %v, want 10 s", d)
			}
		}
		if n := len(run.Exchanges); n < 80 || n > 180 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		began := time.Now()
		s := small(func(s *replay.Spec) { s.Duration, s.PromptSizes = replay.Seconds(time.Hour), replay.Sizes{100} })
		run, err := Run(t.Context(), Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Enough: func() bool { return time.Since(began) > time.Minute }})
		if err != nil || len(run.Exchanges) < 10 || time.Since(began) > 2*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: 10 * time.Millisecond, gap: 10 * time.Millisecond}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(12*time.Second, cancel)
		run, err := Run(ctx, Config{Plan: plan(t, small(func(s *replay.Spec) { s.Requests = 1000 })), Sender: srv, Prompts: texts{}, Sleep: time.Sleep})
		if err != nil || !run.Interrupted || len(run.Exchanges) < 3 || len(run.Exchanges) > 12 {
			t.Fatalf("%v; %d exchanges", err, len(run.Exchanges))
		}
		for _, e := range run.Exchanges {
			if !e.OK() {
				t.Errorf("the request that was given up is kept: %s", e.Error)
			}
		}
		cancelled, stop := context.WithCancel(t.Context())
		stop()
		if _, err := Run(cancelled, Config{Plan: plan(t, small(nil)), Sender: srv, Prompts: texts{}, Sleep: time.Sleep}); err == nil || !strings.HasPrefix(err.Error(), "interrupted before") {
			t.Errorf("a run that was interrupted at once: %v", err)
		}
	})
}

func TestRequestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Microsecond, fail: func(r *replay.Request) bool { return !r.Warmup && r.Index == 2 }}
		run, err := Run(t.Context(), Config{Plan: plan(t, small(nil)), Sender: srv, Prompts: texts{}, Sleep: time.Sleep})
		if err != nil || len(run.Exchanges) != 12 {
			t.Fatalf("%v; %d exchanges", err, len(run.Exchanges))
		}
		srv.fail = func(*replay.Request) bool { return true }
		if _, err := Run(t.Context(), Config{Plan: plan(t, small(nil)), Sender: srv, Prompts: texts{}, Sleep: time.Sleep}); err == nil || !strings.Contains(err.Error(), "before anything is measured") {
			t.Errorf("a server that fails from the beginning: %v", err)
		}
	})
}

// texts that cannot be made end the run; what was measured before stays.
type brittle struct{ left int }

func (b *brittle) Make(ctx context.Context, task string, n int, seed uint64) (string, error) {
	if b.left--; b.left < 0 {
		return "", errors.New("the tokenizer is gone")
	}
	return texts{}.Make(ctx, task, n, seed)
}

func TestPromptFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Microsecond}
		run, err := Run(t.Context(), Config{Plan: plan(t, small(nil)), Sender: srv, Prompts: &brittle{left: 10}, Sleep: time.Sleep})
		if err != nil || !strings.Contains(run.Failure, "tokenizer") || len(run.Exchanges) != 6 {
			t.Errorf("%v; %+v", err, run)
		}
	})
}

func TestWarmCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond}
		s := small(func(s *replay.Spec) { s.Cache, s.Concurrency, s.PromptSizes = replay.Warm, 3, replay.Sizes{100} })
		run, err := Run(t.Context(), Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Slots: 4})
		if err != nil {
			t.Fatal(err)
		}
		sent, _ := measured(srv)
		primed := 0
		for _, r := range srv.sent {
			if r.Warmup && r.Prompt == sent[0].Prompt {
				primed++
			}
		}
		if primed != 3 {
			t.Errorf("%d slots were primed, want 3", primed)
		}
		for _, r := range sent {
			if r.Prompt != sent[0].Prompt || r.Cache != replay.Warm {
				t.Errorf("%+v has another text or is not warm", r.Key)
			}
		}
		if len(run.Exchanges) != 6 {
			t.Errorf("%d exchanges", len(run.Exchanges))
		}
	})
}

func TestPromptOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Microsecond}
		odd := &offsetServer{server: srv, by: 2}
		var told []int
		_, err := Run(t.Context(), Config{Plan: plan(t, small(nil)), Sender: odd, Prompts: texts{}, Sleep: time.Sleep, Offset: func(n int) { told = append(told, n); odd.by = 0 }})
		if err != nil || len(told) != 1 || told[0] != 2 {
			t.Errorf("%v; offsets %v", err, told)
		}
	})
}

// offsetServer evaluates more tokens than were counted.
type offsetServer struct {
	*server
	by int64
}

func (o *offsetServer) Send(ctx context.Context, r *replay.Request) *replay.Exchange {
	ex := o.server.Send(ctx, r)
	ex.PromptN.V += o.by
	return ex
}

func TestRestAndPauseBetweenCells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Microsecond}
		var after []int
		s := small(func(s *replay.Spec) { s.Pause = replay.Seconds(3 * time.Second) })
		run, err := Run(t.Context(), Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Rest: func(_ context.Context, c replay.Cell) (bool, error) {
			after = append(after, c.PromptTokens)
			return c.PromptTokens != 200, nil
		}})
		if err != nil || len(after) != 2 || len(run.NotIdle) != 1 || !strings.Contains(run.NotIdle[0], "200") {
			t.Errorf("%v; after %v, notIdle %v", err, after, run.NotIdle)
		}
		if gap := run.Spans[1].From.Sub(run.Spans[0].To); gap < 3*time.Second {
			t.Errorf("%v between cells", gap)
		}
	})
}

// screen is a terminal that keeps everything.
type screen struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func TestProgressLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: 10 * time.Millisecond, gap: 100 * time.Millisecond}
		var out screen
		_, err := Run(t.Context(), Config{
			Plan: plan(t, small(nil)), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Progress: &out, Watts: func() replay.Num { return replay.Some(215) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"1 in flight", "tokens/s", "215 W", " left"} {
			if !strings.Contains(out.text.String(), want) {
				t.Errorf("no %q in %q", want, out.text.String())
			}
		}
		if !strings.HasSuffix(out.text.String(), ClearLine) {
			t.Error("the line was left behind")
		}
	})
}

func TestClientCPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used := 0.0
		run, err := Run(t.Context(), Config{Plan: plan(t, small(nil)), Sender: &server{perToken: time.Microsecond}, Prompts: texts{}, Sleep: time.Sleep, CPU: func() replay.Num { used += 0.5; return replay.Some(used) }})
		if err != nil || run.Spans[0].CPUSeconds != replay.Some(0.5) {
			t.Errorf("%v; %+v", err, run.Spans)
		}
	})
}

// An open loop stamps the scheduled time, not the time of sending: a late wake-up is lag.
func TestScheduledTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late = 3 * time.Millisecond
		srv := &server{perToken: time.Microsecond}
		p := plan(t, small(func(s *replay.Spec) { s.Rate, s.PromptSizes = 20, replay.Sizes{100} }))
		run, err := Run(t.Context(), Config{Plan: p, Sender: srv, Prompts: texts{}, Sleep: func(d time.Duration) { time.Sleep(d + late) }})
		if err != nil {
			t.Fatal(err)
		}
		sent, at := measured(srv)
		offsets := Schedule(p, 0, 0, 0)
		for i, r := range sent {
			if got := r.ScheduledAt.Sub(sent[0].ScheduledAt); got != offsets[i]-offsets[0] {
				t.Errorf("request %d is scheduled at %v, the plan says %v", i, got, offsets[i]-offsets[0])
			}
			if at[i].Sub(r.ScheduledAt) < late {
				t.Errorf("request %d was sent %v after its time, and the wake-up was %v late", i, at[i].Sub(r.ScheduledAt), late)
			}
		}
		if len(run.Exchanges) != 6 {
			t.Errorf("%d exchanges", len(run.Exchanges))
		}
	})
}

// TestDataset: the records of a dataset are sent in their order and with their own sizes, again from the first after the
// last, in a closed and in an open loop; the warm-up corrects their counted sizes.
func TestDataset(t *testing.T) {
	for _, rate := range []float64{0, 20} {
		synctest.Test(t, func(t *testing.T) {
			d, err := replay.ReadDataset("mine.jsonl", []byte(`{"prompt": "a", "max_tokens": 2}`+"\n"+`{"prompt": "b", "max_tokens": 4}`+"\n"+`{"prompt": "c"}`))
			if err != nil {
				t.Fatal(err)
			}
			for i := range d.Lines {
				d.Lines[i].PromptTokens = 100 * (i + 1)
			}
			s, err := replay.Spec{Dataset: "mine.jsonl", OutputTokens: replay.Sizes{6}, Requests: 5, Rate: rate}.Complete(nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := replay.CompileDataset(s, d, 0)
			if err != nil {
				t.Fatal(err)
			}
			odd := &offsetServer{server: &server{perToken: time.Microsecond, gap: time.Microsecond}, by: 2}
			run, err := Run(t.Context(), Config{Plan: p, Sender: odd, Prompts: &brittle{}, Sleep: time.Sleep, Offset: func(n int) { d.Shift(n); odd.by = 0 }})
			if err != nil {
				t.Fatal(err)
			}
			sent, _ := measured(odd.server)
			var got []string
			for _, r := range sent {
				got = append(got, fmt.Sprintf("%s %d x %d", r.Messages[len(`[{"role":"user","content":"`):][:1], r.Cell.PromptTokens, r.Cell.OutputTokens))
			}
			if want := "a 102 x 2, b 202 x 4, c 302 x 6, a 102 x 2, b 202 x 4"; strings.Join(got, ", ") != want {
				t.Errorf("rate %g: sent %s, want %s", rate, strings.Join(got, ", "), want)
			}
			for _, c := range run.Check() {
				if c.State == replay.Failed {
					t.Errorf("rate %g: %+v", rate, c)
				}
			}
		})
	}
}
