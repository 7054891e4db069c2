package replay_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/selftest"
)

// The client against an upstream that was told its latencies and notes what it really did. Never early is
// strict: no byte can be seen before it was written, no request sent before its time. How late is a matter
// of the machine, so each median must be within a millisecond in the best of a few rounds, beside what the
// machine itself takes in that round to hand a byte over loopback: a busy neighbour can only add. What the
// client adds to a time to first token is the way of the request (connecting included) and the way of the
// token; how late the upstream's own timers are is not its doing, and is held to nothing here.
func TestFidelity(t *testing.T) {
	faithful(t, 15, 4, false, func(n int) selftest.Told {
		if n > 32 { // as slow as keeps two cores from being the bottleneck
			return selftest.Told{FirstToken: 200 * time.Millisecond, Gap: 100 * time.Millisecond}
		}
		return selftest.Told{FirstToken: 60 * time.Millisecond, Gap: 30 * time.Millisecond}
	})
}

// The same with longer replies on a machine at rest: all medians within a millisecond of what the upstream
// was told, its own lateness included and nothing taken off, in one and the same round.
func TestFidelitySoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("part of make soak")
	}
	faithful(t, 1, 16, true, func(int) selftest.Told {
		return selftest.Told{FirstToken: 300 * time.Millisecond, Gap: 100 * time.Millisecond}
	})
}

// faithful holds every load against the upstream; of each figure the best of some rounds counts. Strict is
// against what the upstream was told, and makes the machine no allowance.
func faithful(t *testing.T, rounds, tokens int, strict bool, told func(n int) selftest.Told) {
	for _, n := range []int{1, 32, 256} {
		for _, open := range []bool{false, true} {
			name := fmt.Sprintf("closed, %d in flight", n)
			if open {
				name = fmt.Sprintf("open, %d in flight on average", n)
			}
			t.Run(name, func(t *testing.T) {
				best := fidelity{added: math.Inf(1), itl: math.Inf(1), lag: math.Inf(1)}
				for round := 1; round <= rounds && best.worst() >= 1; round++ {
					slower := time.Duration((round + 3) / 4) // a machine that is too slow for the pace gets a slower one
					f := fidelityRound(t, name, n, open, selftest.Told{FirstToken: slower * told(n).FirstToken, Gap: slower * told(n).Gap}, tokens)
					bare := handover(t)
					t.Logf("round %d, medians in ms: added to ttft %.3f (sent to arrived %.3f, written to seen %.3f; the upstream itself was %.3f late, ttft - told %.3f), itl - told %.3f, behind schedule %.3f; client CPU %.1f %%, %.0f us an event; a bare byte takes %.3f",
						round, f.added, f.before, f.after, f.upstream, f.told, f.itl, f.lag, f.floor.CPUPercent.V, f.floor.CPUUsEvent.V, bare)
					if strict {
						bare = 0
						best.told = math.Abs(f.told)
					}
					// A first token has two ways, there and back; a gap and a sending hang on one waking each.
					best.added, best.itl, best.lag = min(best.added, f.added-2*bare), min(best.itl, f.itl-bare), min(best.lag, f.lag-bare)
				}
				if best.worst() >= 1 {
					t.Errorf("the best of %d rounds is %.3f ms off: %+v", rounds, best.worst(), best)
				}
			})
		}
	}
}

func (f fidelity) worst() float64 { return max(f.added, f.told, f.itl, f.lag) }

// handover is the median time, in milliseconds, from a byte's write to its read by a sleeping reader on loopback.
func handover(t *testing.T) float64 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	from, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	read := make(chan time.Time)
	go func() { // ends with to
		for buf := make([]byte, 1); ; {
			if _, err := to.Read(buf); err != nil {
				return
			}
			read <- time.Now()
		}
	}()
	var took []float64
	for range 21 {
		exactly(5 * time.Millisecond) // so that the reader sleeps
		wrote := time.Now()
		if _, err := from.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		took = append(took, float64((<-read).Sub(wrote))/1e6)
	}
	return replay.Median(took).V
}

// numbered makes prompts that differ and are of no size in particular, without asking anybody.
type numbered struct{}

func (numbered) Make(_ context.Context, task string, _ int, seed uint64) (string, error) {
	return fmt.Sprintf("%s %x", task, seed), nil
}

// fidelity is one round's medians, milliseconds.
type fidelity struct {
	before, after  float64 // start to arrival at the upstream; written there to seen here
	added          float64 // both of one request together: the client's part of a time to first token
	told, upstream float64 // ttft less what was told; how late the upstream was by its own clock
	itl, lag       float64
	floor          selftest.Floor
}

func fidelityRound(t *testing.T, name string, n int, open bool, told selftest.Told, tokens int) fidelity {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := stub.New(stub.Config{HeaderDelay: time.Millisecond, FirstToken: told.FirstToken, TokenGap: told.Gap, PingInterval: -1, Slots: 4 * n, Record: true, Exactly: exactly})
	go srv.Serve(ln)
	defer srv.Close()
	c, err := client.New(client.Config{Endpoint: "http://" + ln.Addr().String(), Agent: "fidelity", RunID: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	spec := replay.Spec{Cells: []replay.Cell{{Task: "coding", PromptTokens: 120, OutputTokens: tokens}}, Requests: max(5, n), Arrival: replay.Constant}
	if open {
		spec.Rate = float64(n) / (told.FirstToken + time.Duration(tokens-1)*told.Gap).Seconds()
	} else {
		spec.Concurrency = n
	}
	if spec, err = spec.Complete(prompt.Tasks()); err != nil {
		t.Fatal(err)
	}
	plan, err := replay.Compile(spec, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	run, err := load.Run(t.Context(), load.Config{Plan: plan, Sender: c, Prompts: numbered{}, Slots: n, CPU: cpuTime, NoWarmup: true})
	if err != nil {
		t.Fatal(err)
	}
	return compare(t, name, run, srv, told)
}

// compare holds the client's times against the upstream's, request by request; both are of one clock, the monotonic
// one: a reading of the wall's may be older than that of the other by as long as the process stood still between them.
func compare(t *testing.T, name string, run *replay.Run, srv *stub.Server, told selftest.Told) fidelity {
	t.Helper()
	did := map[string]stub.Exchange{}
	for _, e := range srv.Exchanges() {
		did[e.ID] = e
	}
	var before, after, added, upstream []float64
	for _, e := range run.Exchanges {
		d, ok := did[fmt.Sprintf("f-m-%d-%d-%d", e.Trial, e.Key.Cell, e.Index)]
		if !ok || !e.OK() {
			t.Fatalf("request %+v: known to the upstream: %v; %s", e.Key, ok, e.Error)
		}
		seen := e.Began.Add(time.Duration(e.TTFTUs.V) * time.Microsecond)
		const truncated = 2 * time.Microsecond
		if seen.Add(truncated).Before(d.First) || d.Arrived.Before(e.Began) || e.Began.Before(e.ScheduledAt) {
			t.Errorf("early: scheduled %v, started %v, arrived %v, written %v, seen %v", e.ScheduledAt, e.Began, d.Arrived, d.First, seen)
		}
		ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
		before = append(before, ms(d.Arrived.Sub(e.Began)))
		after = append(after, ms(seen.Sub(d.First)))
		added = append(added, ms(d.Arrived.Sub(e.Began)+seen.Sub(d.First)))
		upstream = append(upstream, ms(d.First.Sub(d.Arrived)-told.FirstToken))
	}
	f := fidelity{floor: selftest.FloorOf(name, run, told)}
	f.added = replay.Median(added).V
	f.before, f.after, f.upstream = replay.Median(before).V, replay.Median(after).V, replay.Median(upstream).V
	f.told, f.lag = f.floor.TTFT.Median.V, f.floor.Schedule.Median.V
	f.itl = max(f.floor.ITL.Median.V, -f.floor.ITL.Median.V)
	return f
}
