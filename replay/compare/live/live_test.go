package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
	"wattline/replay"
	"wattline/replay/compare"
	"wattline/replay/session"
)

// upstream is a stub with a first token after first, and slower by a part.
func upstream(t *testing.T, first time.Duration, slower float64) (url string, stop func()) {
	t.Helper()
	times := func(d time.Duration) time.Duration { return time.Duration(float64(d) * (1 + slower)) }
	srv := stub.New(stub.Config{FirstToken: times(first), TokenGap: times(3 * time.Millisecond)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String(), func() { _ = srv.Close() }
}

func config(a, b string, spec replay.Spec, budget time.Duration) Config {
	cfg := Config{Labels: [2]string{"a", "b"}, Budget: budget, Say: func(string, ...any) {}}
	for i, endpoint := range []string{a, b} {
		cfg.Sides[i] = session.Config{Endpoint: endpoint, Agent: "test", LoadTimeout: time.Second, Spec: spec, Say: func(string, ...any) {}, Log: slog.New(slog.DiscardHandler)}
	}
	return cfg
}

func small() replay.Spec {
	return replay.Spec{PromptSizes: replay.Sizes{100}, OutputTokens: replay.Sizes{8}, Requests: 2}
}

func said(r *compare.Result) string {
	var b strings.Builder
	r.Terminal(&b)
	return b.String()
}

// TestInterleaved: over real sockets, an upstream that is slower is worse, and the runs are those of an interleaved session.
func TestInterleaved(t *testing.T) {
	a, _ := upstream(t, 30*time.Millisecond, 0)
	b, _ := upstream(t, 30*time.Millisecond, 1) // twice as slow, so that a busy machine does not hide it
	r, err := Run(t.Context(), config(a, b, small(), 10*time.Second))
	if err != nil || r.Failure != nil {
		t.Fatal(err, r)
	}
	i := slices.IndexFunc(r.Compare.Metrics, func(m compare.Metric) bool { return m.Key == "ttft" })
	if m := r.Compare.Metrics[i]; m.Verdict != compare.Worse || m.Effect.Percent.V < 50 || r.Compare.Units < compare.MinRounds || r.Compare.Design != "interleaved, A B B A" {
		t.Errorf("%s", said(r.Compare))
	}
	for s, run := range r.Runs {
		for _, e := range run.Exchanges {
			if compare.Turn(e.Trial) != (s == 1) {
				t.Fatalf("side %d ran trial %d", s, e.Trial)
			}
		}
		if run.Plan.Hash != r.Runs[0].Plan.Hash || run.Plan.Spec.Trials < 4*compare.MinRounds {
			t.Errorf("plan %+v", run.Plan.Spec)
		}
	}
}

// TestDies: an endpoint that dies half-way ends the session with a sentence, and what was measured until then is kept.
func TestDies(t *testing.T) {
	a, _ := upstream(t, 10*time.Millisecond, 0)
	b, stop := upstream(t, 10*time.Millisecond, 0)
	cfg := config(a, b, small(), time.Minute)
	cfg.Say = func(format string, args ...any) {
		if strings.HasPrefix(fmt.Sprintf(format, args...), "round 3") {
			stop()
		}
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Failure == nil || !strings.Contains(r.Failure.Error(), "B, b, ended half-way") || r.Compare.Units != 3 || len(r.Runs[0].Exchanges) == 0 {
		t.Errorf("%v\n%s", r.Failure, said(r.Compare))
	}
	if cfg.Sides[1].Endpoint = "http://127.0.0.1:1"; true {
		if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "B, b: no server answers") {
			t.Errorf("nobody there: %v", err)
		}
	}
}

// TestInterrupted: what was measured is kept.
func TestInterrupted(t *testing.T) {
	a, _ := upstream(t, 10*time.Millisecond, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(a, a, small(), time.Minute)
	cfg.Say = func(format string, args ...any) {
		if strings.HasPrefix(fmt.Sprintf(format, args...), "round 2") {
			cancel()
		}
	}
	r, err := Run(ctx, cfg)
	if err != nil || r.Failure == nil || r.Compare.Units != 2 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestStartedServers: where one server runs at a time, A has the first turn without a start, a server that was started is warmed
// up before it is measured, and a server that does not start any more ends the session with what was measured.
func TestStartedServers(t *testing.T) {
	a, _ := upstream(t, 5*time.Millisecond, 0)
	b, _ := upstream(t, 5*time.Millisecond, 0)
	runs, starts := -1, [2]int{}
	cfg := config(a, b, small(), 20*time.Second)
	cfg.Switch = func(_ context.Context, side int) (bool, error) {
		if runs == side {
			return false, nil
		}
		if side == 1 && starts[1] == 2 { // in the second round
			return false, errors.New("it does not start")
		}
		runs = side
		starts[side]++
		return true, nil
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Failure == nil || !strings.Contains(r.Failure.Error(), "B, b, ended half-way: it does not start") || r.Compare.Units != 1 {
		t.Errorf("%v\n%s", r.Failure, said(r.Compare))
	}
	// A is asked, B is asked and begins, A begins and has the first trial; then each round starts B and A.
	if starts != [2]int{3, 2} || runs != 0 {
		t.Errorf("starts %v", starts)
	}
	for i, run := range r.Runs { // Begin's, and one a start behind it
		if warm := len(run.Warmups); warm != 2 || run.After != nil {
			t.Errorf("side %d: %d throw-away requests, after it %v", i, warm, run.After)
		}
	}
}

// TestOneSideOnly: where B never answered a request, what A answered is kept.
func TestOneSideOnly(t *testing.T) {
	a, _ := upstream(t, 5*time.Millisecond, 0)
	b, _ := upstream(t, 5*time.Millisecond, 0)
	turns := 0
	cfg := config(a, b, small(), 20*time.Second)
	cfg.Switch = func(_ context.Context, side int) (bool, error) {
		if turns += side; turns == 3 {
			return false, errors.New("it does not start")
		}
		return false, nil
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Runs[0] == nil || len(r.Runs[0].Exchanges) != 2 || r.Runs[1] != nil || r.Compare != nil || r.Failure == nil || !strings.Contains(r.Failure.Error(), "B, b, ended half-way: it does not start") {
		t.Errorf("%+v, %v", r, r.Failure)
	}
}

// againstItself compares a real llama-server with itself in short sessions and returns how many found a difference.
func againstItself(t *testing.T, sessions int) (found int) {
	t.Helper()
	srv := llamatest.Start(t)
	for range sessions {
		r, err := Run(t.Context(), config(srv.URL(), srv.URL(), replay.Spec{PromptSizes: replay.Sizes{60, 120}, OutputTokens: replay.Sizes{16}, Requests: 2}, 3*time.Second))
		if err != nil || r.Failure != nil {
			t.Fatal(err, r)
		}
		if r.Compare.Has(compare.Better) || r.Compare.Has(compare.Worse) {
			found++
			t.Log(said(r.Compare))
		}
	}
	return found
}

// TestAgainstItself: one short session; see [TestAgainstItselfSoak].
func TestAgainstItself(t *testing.T) {
	if n := againstItself(t, 2); n > 1 {
		t.Errorf("%d of 2 sessions of a server against itself found a difference", n)
	}
}

func TestAgainstItselfSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("100 sessions of a real server: set WATTLINE_SOAK=1")
	}
	n := againstItself(t, 100)
	t.Logf("%d of 100 sessions of a real llama-server against itself found a difference", n)
	if n > 5 {
		t.Errorf("%d of 100 sessions found a difference", n)
	}
}
