package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/cmd/wattline/internal/logging"
	"wattline/cmd/wattline/internal/serving"
	"wattline/meter"
	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
)

// flooded is `wattline serve` with a second source of rows, each settled a second after it was offered. The first line
// of standard input is their rate per second. Then "written" offers them to the store's queue, "discarded" to a queue
// with a store that discards them, and "end" prints a floodReport.
func flooded() {
	ctx := context.Background()
	c, _, _, err := parse(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fatal(err)
	}
	a := &app{ctx: ctx, stdout: os.Stdout, stderr: os.Stderr}
	a.log = logging.New(os.Stderr, c.LogFormat, nil)
	s, err := serving.Open(a.host(c.Serve.Store), &c.Serve.Flags)
	if err != nil {
		fatal(err)
	}
	s.PrintStartup()
	go func() { // ends with the process
		in := bufio.NewScanner(os.Stdin)
		var rate int
		if in.Scan() {
			if _, err := fmt.Sscan(in.Text(), &rate); err != nil {
				fatal(err)
			}
		}
		rows := newFloodRows(rate)
		queues := map[string]*sink.Queue{"written": s.Rows.Queue, "discarded": sink.New(sink.Config{Store: discardStore{}, Observer: s.Rows.Telemetry})}
		var f *flood
		for in.Scan() {
			if q := queues[in.Text()]; q != nil {
				f = startFlood(q, rows, rate)
			} else if err := json.NewEncoder(os.Stdout).Encode(f.end()); err != nil {
				fatal(err)
			}
		}
		os.Exit(0)
	}()
	fatal(s.Run())
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// discardStore is a store that discards rows.
type discardStore struct{}

func (discardStore) Write(context.Context, *sink.Rows) error { return nil }

// flood offers rows to a queue.
type flood struct {
	q    *sink.Queue
	stop chan struct{}
	done chan floodReport
}

// floodReport is the result of a flood.
type floodReport struct {
	Offered, Settled, Refused int
	Seconds                   float64
	Stats                     sink.Stats
}

// floodRows are the rows of a flood. They are made before it begins, so that only Offer, Settle and the store's writer
// compete with the traffic. A row's memory is reused four seconds after it was offered: it is settled after one, and the
// queue holds less than two seconds of rows.
type floodRows struct{ pending, settled []meter.Record }

func newFloodRows(rate int) *floodRows {
	like := chtest.Rows(chtest.RowsConfig{Seed: 1, Requests: 500}).Requests
	r := &floodRows{make([]meter.Record, 4*rate), make([]meter.Record, 4*rate)}
	for i := range r.pending {
		r.pending[i], r.settled[i] = *like[i%len(like)], *like[i%len(like)]
		r.pending[i].EnergyQuality, r.settled[i].EnergyQuality = meter.EnergyPending, meter.EnergyShared
	}
	return r
}

// at returns the i-th row as it is offered and as it is settled.
func (r *floodRows) at(i int, name string, at time.Time) (pending, settled *meter.Record) {
	i %= len(r.pending)
	return named(&r.pending[i], name, at), named(&r.settled[i], name, at)
}

func named(rec *meter.Record, name string, at time.Time) *meter.Record {
	rec.ID, rec.StartedAt = name, at
	return rec
}

func startFlood(q *sink.Queue, rows *floodRows, rate int) *flood {
	f := &flood{q, make(chan struct{}), make(chan floodReport, 1)}
	const tick = 2 * time.Millisecond
	go func() { // ends with f.stop
		began, t := time.Now(), time.NewTicker(tick)
		defer t.Stop()
		var r floodReport
		settled := make([]*meter.Record, 0, rate*100)
		for stopped := false; !stopped; {
			select {
			case <-t.C:
			case <-f.stop:
				stopped = true
			}
			// Computed from the clock, because a busy machine drops ticks.
			for due := int(time.Since(began).Seconds() * float64(rate)); r.Offered < due; r.Offered++ {
				at := began.Add(time.Duration(r.Offered) * time.Second / time.Duration(rate))
				p, s := rows.at(r.Offered, "flood-"+strconv.FormatInt(at.UnixNano(), 36), at)
				settled = append(settled, s)
				if !q.Offer(p) {
					r.Refused++
				}
			}
			for due := r.Offered - rate; r.Settled < due; r.Settled++ {
				if !q.Settle(settled[r.Settled]) {
					r.Refused++
				}
			}
		}
		r.Seconds = time.Since(began).Seconds()
		f.done <- r
	}()
	return f
}

func (f *flood) end() floodReport {
	close(f.stop)
	r := <-f.done
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := f.q.Flush(ctx); err != nil {
		fatal(err)
	}
	r.Stats = f.q.Stats()
	return r
}

// TestSoakTTFTBesideWriter measures time to first token at the client in phases of three kinds, in turns: without other
// rows; with 5,000 rows per second that are offered and discarded; with as many that the store writes. The writer must
// keep up, and the median p99 of its phases must be within the range of the phases of each other kind. `make test` only
// checks that the writer keeps up with a tenth of the rate.
func TestSoakTTFTBesideWriter(t *testing.T) {
	rate, rounds, length, clients := 500, 1, 1500*time.Millisecond, 8
	soak := os.Getenv("WATTLINE_SOAK") != ""
	if soak {
		rate, rounds, length, clients = 5000, 8, 5*time.Second, 24
	}
	f := startFlooded(t, rate)
	kinds := []string{"alone", "discarded", "written"}
	p99 := map[string][]float64{}
	for range rounds {
		for _, kind := range kinds {
			ttft, line := f.phase(t, kind, clients, length)
			t.Logf("%-9s %5d streams, ttft p50 %.2f ms, p99 %.2f ms%s", kind, len(ttft), percentile(ttft, 0.5), percentile(ttft, 0.99), line)
			p99[kind] = append(p99[kind], percentile(ttft, 0.99))
		}
	}
	written := percentile(p99["written"], 0.5)
	for _, kind := range kinds {
		all := p99[kind]
		t.Logf("p99 of the time to first token, rows %-9s: median of the phases %.2f ms, quartiles %.2f to %.2f, all %.2f to %.2f", kind,
			percentile(all, 0.5), percentile(all, 0.25), percentile(all, 0.75), slices.Min(all), slices.Max(all))
		if soak && written > slices.Max(all) {
			t.Errorf("beside the writer it is %.2f ms, above every phase of rows %s", written, kind)
		}
	}
}

// floodedProcess is a running process of flooded.
type floodedProcess struct {
	*wattlineProcess
	rate int
	in   io.Writer
	said *json.Decoder
}

func startFlooded(t *testing.T, rate int) *floodedProcess {
	t.Helper()
	cmd := command(t, "serve", "--upstream", timedUpstream(t), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--gpu", "none")
	cmd.Args[0] = "flooded"
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f := &floodedProcess{started(t, cmd), rate, in, json.NewDecoder(out)}
	f.tell(t, rate)
	return f
}

func (f *floodedProcess) tell(t *testing.T, what any) {
	t.Helper()
	if _, err := fmt.Fprintln(f.in, what); err != nil {
		t.Fatal(err)
	}
}

// phase runs clients with rows of one kind in the background. It returns the times to first token, in ms, and a line about
// the rows.
func (f *floodedProcess) phase(t *testing.T, kind string, clients int, length time.Duration) (ttft []float64, line string) {
	t.Helper()
	if kind == "alone" {
		return firstTokens(t, f.url, clients, length), ""
	}
	f.tell(t, kind)
	ttft = firstTokens(t, f.url, clients, length)
	f.tell(t, "end")
	var r floodReport
	if err := f.said.Decode(&r); err != nil {
		t.Fatal(err)
	}
	if r.Refused > 0 || r.Offered < f.rate {
		t.Errorf("the writer does not keep up: %+v", r)
	}
	return ttft, fmt.Sprintf("; beside %.0f rows/s offered and %.0f settled, %d refused, %d dropped or lost in all", float64(r.Offered)/r.Seconds, float64(r.Settled)/r.Seconds, r.Refused,
		r.Stats.Requests.Dropped+r.Stats.Requests.Lost+r.Stats.Settled.Dropped+r.Stats.Settled.Lost)
}

func percentile(values []float64, p float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[int(p*float64(len(s)-1))]
}

// timedUpstream starts the stub as a process: the first token after 20 ms, then nine at 10 ms.
func timedUpstream(t *testing.T) string {
	t.Helper()
	cmd := command(t, "stub", "--header-delay", "2ms", "--first-token", "20ms", "--token-gap", "10ms", "--ping-interval=-1s", "--tokens", "10", "--slots", "64")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // "signal: killed"
}

// firstTokens runs clients and returns the times to first token, in ms.
func firstTokens(t *testing.T, url string, clients int, length time.Duration) (all []float64) {
	t.Helper()
	until := time.Now().Add(length)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for time.Now().Before(until) {
				ms, err := firstToken(t.Context(), url)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, ms)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(all) == 0 {
		t.Fatal("no stream ended")
	}
	return all
}

func firstToken(ctx context.Context, url string) (ms float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/completion", strings.NewReader(`{"prompt":"a b c","stream":true,"n_predict":10}`))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if ms == 0 && strings.HasPrefix(lines.Text(), "data: ") {
			ms = float64(time.Since(began).Microseconds()) / 1e3
		}
	}
	if ms == 0 {
		return 0, fmt.Errorf("a stream without a token: %s, %w", resp.Status, lines.Err())
	}
	return ms, lines.Err()
}
