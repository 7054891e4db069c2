package sweep

import (
	"log/slog"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/replay"
	"wattline/replay/session"
)

// known opens a session at a stub of two slots that holds each request for 50 ms: a capacity of 40 requests a second.
func known(t *testing.T, spec replay.Spec, objectives []replay.Objective) *session.Session {
	t.Helper()
	srv := stub.New(stub.Config{Slots: 2, HeaderDelay: time.Millisecond, FirstToken: 30 * time.Millisecond, TokenGap: 4 * time.Millisecond})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	s, err := session.Open(t.Context(), session.Config{
		Endpoint: "http://" + ln.Addr().String(), Agent: "test", LoadTimeout: time.Second, Spec: spec, Objectives: objectives,
		Say: func(string, ...any) {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func spec() replay.Spec {
	return replay.Spec{PromptSizes: replay.Sizes{50}, OutputTokens: replay.Sizes{6}, Arrival: replay.Constant}
}

// TestConcurrencies: over real sockets, throughput grows to the capacity and no further, and the wait with the queue.
func TestConcurrencies(t *testing.T) {
	s := spec()
	s.Requests = 16
	r, err := Run(t.Context(), Config{Session: known(t, s, nil), Plan: Plan{Concurrency: []int{1, 2, 6}}, Spec: s, Say: func(string, ...any) {}})
	if err != nil || len(r.Points) != 3 {
		t.Fatal(err, r)
	}
	one, two, six := r.Points[0], r.Points[1], r.Points[2]
	if two.RequestsPerSecond.V < 1.4*one.RequestsPerSecond.V || six.RequestsPerSecond.V > 42 || six.TTFTMs.V < 1.5*two.TTFTMs.V || one.Concurrency != 1 {
		t.Errorf("%+v\n%+v\n%+v", one, two, six)
	}
}

// TestOneBudget: the budget is of all points together; what was measured until it ended is kept.
func TestOneBudget(t *testing.T) {
	s := spec()
	s.Requests = 16
	r, err := Run(t.Context(), Config{Session: known(t, s, nil), Plan: Plan{Concurrency: []int{1, 2, 6}}, Spec: s, Budget: 900 * time.Millisecond, Say: func(string, ...any) {}})
	if err == nil || len(r.Points) == 3 {
		t.Errorf("%d points, %v", len(r.Points), err)
	}
}

// TestKneeOfAStubSoak: the knee of a server of known capacity, over real sockets, within 5 %.
func TestKneeOfAStubSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("two minutes of requests: set WATTLINE_SOAK=1")
	}
	objectives := []replay.Objective{{Metric: "ttft", MaxMs: 150}}
	r, err := Run(t.Context(), Config{
		Session: known(t, spec(), objectives), Plan: Plan{Auto: true}, Spec: spec(), Objectives: objectives, Budget: 5 * time.Minute, Say: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	const capacity = 40
	if k := r.Knee; k == nil || math.Abs(k.Rate.V/capacity-1) > 0.05 || !k.Low.Valid || !k.High.Valid {
		t.Errorf("%+v, want %d a second", k, capacity)
	}
}
