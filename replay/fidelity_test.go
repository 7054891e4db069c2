package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
)

// The client against an upstream with configured latencies that records what it did. Two things hold on
// any machine: no byte is seen before it was written, and no request is sent before its time. How late the
// client is depends on the machine too, so every round has a control: the same plan sent by plain net/http,
// just before or just behind, and a goroutine that only sleeps. In the median over all rounds, the client's
// median may be 1 ms later than the control's, and its 90th percentile 10 ms; beside that, by as much as
// the control's own figure varies between the rounds, which is nothing on a machine at rest.
func TestFidelity(t *testing.T) {
	const rounds, tokens = 5, 4
	forEachLoad(t, func(t *testing.T, n int, open bool) {
		want := replay.Expected{FirstToken: 60 * time.Millisecond, Gap: 30 * time.Millisecond}
		if n > 32 { // slow enough that two cores are not the bottleneck
			want = replay.Expected{FirstToken: 200 * time.Millisecond, Gap: 100 * time.Millisecond}
		}
		var median, p90 [3][]float64             // of added ttft, itl and lag: client minus control, by round
		var medianVaries, p90Varies [3][]float64 // the control's
		for r := range rounds {
			var mine, control latencies
			var slept []float64
			for i := range 2 {
				if (r+i)%2 == 0 {
					control = measure(t, n, open, want, tokens, func(addr string) load.Sender { return &plainSender{addr: addr} }).latencies
				} else {
					stop := startSleeper()
					mine = measure(t, n, open, want, tokens, httpSender(t)).latencies
					slept = stop()
				}
			}
			control.lag = slept
			for i, figure := range figures {
				a, b := mine.of(i), control.of(i)
				if len(a) == 0 { // lag of a closed loop
					continue
				}
				am, bm, at, bt := replay.Median(a).V, replay.Median(b).V, replay.NearestRank(a, 0.9).V, replay.NearestRank(b, 0.9).V
				median[i], p90[i] = append(median[i], am-bm), append(p90[i], at-bt)
				medianVaries[i], p90Varies[i] = append(medianVaries[i], bm), append(p90Varies[i], bt)
				t.Logf("%s: client %.3f ms, control %.3f (medians); p90 %.3f, %.3f", figure, am, bm, at, bt)
			}
		}
		for i, figure := range figures {
			if m := replay.Median(median[i]); m.V >= 1+span(medianVaries[i]) {
				t.Errorf("%s: the client is %.3f ms later than the control in the median of %d rounds: %.3f", figure, m.V, rounds, median[i])
			}
			if m := replay.Median(p90[i]); m.V >= 10+span(p90Varies[i]) {
				t.Errorf("%s: the client's p90 is %.3f ms later than the control's in the median of %d rounds: %.3f", figure, m.V, rounds, p90[i])
			}
		}
	})
}

// The strict variant, for a machine at rest: longer replies, and every median within 1 ms of the
// configured latency, the upstream's own lateness included.
func TestFidelitySoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("part of make soak")
	}
	forEachLoad(t, func(t *testing.T, n int, open bool) {
		want := replay.Expected{FirstToken: 300 * time.Millisecond, Gap: 100 * time.Millisecond}
		a := measure(t, n, open, want, 16, httpSender(t)).accuracy
		t.Logf("%+v", a)
		for figure, d := range map[string]replay.Num{"ttft": a.TTFT.Median, "itl": a.ITL.Median, "lag": a.Schedule.Median} {
			if math.Abs(d.V) >= 1 {
				t.Errorf("%s is %.3f ms off", figure, d.V)
			}
		}
	})
}

func forEachLoad(t *testing.T, test func(t *testing.T, n int, open bool)) {
	loads := []int{1}
	if os.Getenv("WATTLINE_SOAK") != "" { // many at once on shared cores measure the cores: for a machine at rest
		loads = []int{1, 32, 256}
	}
	for _, n := range loads {
		t.Run(fmt.Sprintf("closed, %d in flight", n), func(t *testing.T) { test(t, n, false) })
		t.Run(fmt.Sprintf("open, %d in flight on average", n), func(t *testing.T) { test(t, n, true) })
	}
}

// span is the distance from the smallest to the largest value.
func span(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return slices.Max(v) - slices.Min(v)
}

//nolint:gochecknoglobals // a constant list
var figures = []string{"added ttft", "itl", "lag"}

// latencies holds one sender's measurements in a round, in milliseconds.
type latencies struct {
	added []float64 // of each request: start to arrival at the upstream, plus first token written to seen
	gaps  []float64
	lag   []float64 // sent after its scheduled time
}

func (l *latencies) of(figure int) []float64 { return [][]float64{l.added, l.gaps, l.lag}[figure] }

type measured struct {
	latencies
	accuracy replay.Accuracy
}

// httpSender makes the client that is tested.
func httpSender(t *testing.T) func(addr string) load.Sender {
	return func(addr string) load.Sender {
		c, err := client.New(client.Config{Endpoint: "http://" + addr, Agent: "fidelity", RunID: "f"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
}

// measure runs one load against an upstream of its own.
func measure(t *testing.T, n int, open bool, want replay.Expected, tokens int, newSender func(addr string) load.Sender) (m measured) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := stub.New(stub.Config{
		HeaderDelay: time.Millisecond, FirstToken: want.FirstToken, TokenGap: want.Gap, PingInterval: -1, Slots: 4 * n,
		Record: true, PreciseSleep: load.PreciseSleep,
	})
	go srv.Serve(ln)
	defer srv.Close()
	spec := replay.Spec{Cells: []replay.Cell{{Task: "coding", PromptTokens: 120, OutputTokens: tokens}}, Requests: max(5, n), Arrival: replay.Constant}
	if open {
		spec.Rate = float64(n) / (want.FirstToken + time.Duration(tokens-1)*want.Gap).Seconds()
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
	run, err := load.Run(t.Context(), load.Config{
		Plan: plan, Sender: newSender(ln.Addr().String()), Prompts: numbered{}, Slots: n, CPU: load.ProcessCPU, NoWarmup: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.latencies, m.accuracy = compare(t, run, srv), replay.AccuracyOf("", run, want)
	return m
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// compare takes the client's times against the upstream's by the monotonic clock of this process: a wall
// clock may have been adjusted between two readings.
func compare(t *testing.T, run *replay.Run, srv *stub.Server) (l latencies) {
	t.Helper()
	done := map[string]stub.Exchange{}
	for _, e := range srv.Exchanges() {
		done[e.ID] = e
	}
	for _, e := range run.Exchanges {
		d, ok := done[requestID(e.Key)]
		if !ok || !e.OK() {
			t.Fatalf("request %+v: known to the upstream: %v; %s", e.Key, ok, e.Error)
		}
		seen := e.StartedMono.Add(time.Duration(e.TTFTUs.V) * time.Microsecond)
		const truncated = 2 * time.Microsecond
		if seen.Add(truncated).Before(d.First) || d.Arrived.Before(e.StartedMono) || e.StartedMono.Before(e.ScheduledAt) {
			t.Errorf("early: scheduled %v, started %v, arrived %v, written %v, seen %v", e.ScheduledAt, e.StartedMono, d.Arrived, d.First, seen)
		}
		l.added = append(l.added, ms(d.Arrived.Sub(e.StartedMono)+seen.Sub(d.First)))
		for _, g := range e.GapsUs {
			l.gaps = append(l.gaps, float64(g)/1e3)
		}
		if e.LagUs.Valid {
			l.lag = append(l.lag, float64(e.LagUs.V)/1e3)
		}
	}
	return l
}

// requestID is the X-Request-Id of a client with RunID f.
func requestID(k replay.Key) string { return fmt.Sprintf("f-m-%d-%d-%d", k.Trial, k.Cell, k.Index) }

// plainSender is the control: net/http without anything of ours between the socket and the clock.
type plainSender struct{ addr string }

func (*plainSender) Events() int64 { return 0 }

func (s *plainSender) Send(ctx context.Context, r *replay.Request) *replay.Exchange {
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":"coding"}],"stream":true,"max_tokens":%d}`, r.Cell.OutputTokens)
	ex := &replay.Exchange{Key: r.Key, Cell: r.Cell, ScheduledAt: r.ScheduledAt, StartedMono: time.Now()}
	tokens, err := s.exchange(ctx, requestID(r.Key), body)
	if err != nil || len(tokens) != r.Cell.OutputTokens {
		ex.Error = fmt.Sprintf("%d tokens: %v", len(tokens), err)
		return ex
	}
	ex.Status, ex.TTFTUs = 200, meter.Some(tokens[0].Sub(ex.StartedMono).Microseconds())
	for i := 1; i < len(tokens); i++ {
		ex.GapsUs = append(ex.GapsUs, tokens[i].Sub(tokens[i-1]).Microseconds())
	}
	return ex
}

// exchange returns when each token came.
func (s *plainSender) exchange(ctx context.Context, id, body string) (tokens []time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Close = true
	req.Header.Set("X-Request-Id", id)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for buf := make([]byte, 16<<10); ; {
		n, err := resp.Body.Read(buf)
		now := time.Now()
		for range bytes.Count(buf[:n], []byte(`"content":"`)) {
			tokens = append(tokens, now)
		}
		if errors.Is(err, io.EOF) {
			return tokens, nil
		} else if err != nil {
			return tokens, err
		}
	}
}

// startSleeper measures how late a goroutine wakes that does nothing else, in milliseconds.
func startSleeper() (stop func() (late []float64)) {
	quit, done := make(chan struct{}), make(chan []float64)
	go func() { // ends with quit; stop waits for it
		var late []float64
		for {
			select {
			case <-quit:
				done <- late
				return
			default:
			}
			at := time.Now().Add(6 * time.Millisecond)
			time.Sleep(4 * time.Millisecond)
			load.PreciseSleep(time.Until(at))
			late = append(late, ms(time.Since(at)))
		}
	}()
	return func() []float64 {
		close(quit)
		return <-done
	}
}

// numbered makes prompts that differ, without asking a server for their size.
type numbered struct{}

func (numbered) Make(_ context.Context, task string, _ int, seed uint64) (string, error) {
	return fmt.Sprintf("%s %x", task, seed), nil
}
