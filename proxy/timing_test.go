package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
)

// TestFirstToken: head at 5 ms, pings every 100 ms, role-only event and first token at 700 ms.
// In a bubble time only passes where the stub waits, so nothing is left to tolerate.
func TestFirstToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dial := bubbleFront(t, stubOn(t, stub.New(stub.Config{TokenGap: 20 * time.Millisecond})))
		for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/completion"} {
			nc := dial()
			send(t, nc, postOf(path, path, `{"prompt":"x","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":5}`))
			resp, _ := readReply(t, bufio.NewReader(nc), http.MethodPost)
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s", path, resp.Status)
			}
			_ = nc.Close()
			rec := f.rows.row(t, path)
			want := map[string]struct {
				got  meter.Int
				want int64
			}{
				"ttfb_us": {rec.TTFBUs, 5_000}, "ttft_us": {rec.TTFTUs, 700_000}, "ttfo_us": {rec.TTFOUs, 700_000},
				"upstream_ttft_us": {rec.UpstreamTTFTUs, 700_000}, "queue_us": {rec.QueueUs, 5_000},
				"prefill_us": {rec.PrefillUs, 695_000}, "decode_us": {rec.DecodeUs, 80_000}, "duration_us": {rec.DurationUs, 780_000},
				"itl_max_us": {rec.ITLMaxUs, 20_000}, "proxy_overhead_us": {rec.ProxyOverheadUs, 0},
				"output_tokens": {rec.OutputTokens, 5}, "output_events": {rec.OutputEvents, 5}, "write_blocked_us": {rec.WriteBlockedUs, 0},
			}
			for name, w := range want {
				if w.got != meter.Some(w.want) {
					t.Errorf("%s: %s is %+v, want %d", path, name, w.got, w.want)
				}
			}
			if p50 := rec.ITLP50Us.V; p50 < 19_800 || p50 > 20_200 { // a sketch's quantile is good to 1 %
				t.Errorf("%s: itl_p50_us is %d", path, p50)
			}
			if rec.Outcome != meter.OK {
				t.Errorf("%s: outcome %s: %s", path, rec.Outcome, rec.Error)
			}
		}
	})
}

// TestRequestSent: P1 is when the last byte of the request was written, not when the write
// began. The upstream takes 40 ms for each write; the second request's body comes in two parts.
func TestRequestSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writeTime, pause = 40 * time.Millisecond, 100 * time.Millisecond
		f, dial := bubbleFront(t, stubOn(t, stub.New(stub.Config{})))
		plain := f.pool.dial
		f.pool.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := plain(ctx, network, addr)
			return slowWriter{nc, writeTime}, err
		}
		msg := postOf("/v1/chat/completions", "whole", chat(2, ""))
		halves := postOf("/v1/chat/completions", "halves", chat(2, ""))
		for _, c := range []struct {
			id    string
			parts []string
			sent  time.Duration
		}{{"whole", []string{msg}, writeTime}, {"halves", []string{halves[:len(halves)-9], halves[len(halves)-9:]}, pause + writeTime}} {
			nc := dial()
			for i, part := range c.parts {
				if i > 0 {
					time.Sleep(pause)
				}
				send(t, nc, part)
			}
			readReply(t, bufio.NewReader(nc), http.MethodPost)
			_ = nc.Close()
			rec := f.rows.row(t, c.id)
			if rec.UpstreamTTFTUs != meter.Some(700_000) || rec.QueueUs != meter.Some(5_000) || rec.TTFTUs != meter.Some((700*time.Millisecond+c.sent).Microseconds()) {
				t.Errorf("%s: upstream_ttft %+v, queue %+v, ttft %+v", c.id, rec.UpstreamTTFTUs, rec.QueueUs, rec.TTFTUs)
			}
		}
	})
}

// slowWriter takes some time before it passes a write on.
type slowWriter struct {
	net.Conn
	time time.Duration
}

func (c slowWriter) Write(p []byte) (int, error) {
	time.Sleep(c.time)
	return c.Conn.Write(p)
}

// TestMeanConcurrency: two requests of 780 ms, the second 390 ms later, have each other for half of
// their time.
func TestMeanConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dial := bubbleFront(t, stubOn(t, stub.New(stub.Config{})))
		var all sync.WaitGroup
		for i, id := range []string{"overlap0", "overlap1", "alone"} {
			all.Go(func() {
				time.Sleep([]time.Duration{0, 390 * time.Millisecond, 2 * time.Second}[i])
				nc := dial()
				defer nc.Close()
				send(t, nc, postOf("/v1/chat/completions", id, chat(5, "")))
				readReply(t, bufio.NewReader(nc), http.MethodPost)
			})
		}
		all.Wait()
		for id, want := range map[string]int64{"overlap0": 1500, "overlap1": 1500, "alone": 1000} {
			if rec := f.rows.row(t, id); rec.MeanConcurrency != meter.Some(want) || rec.DurationUs != meter.Some(780_000) {
				t.Errorf("%s: mean_concurrency %+v, duration %+v", id, rec.MeanConcurrency, rec.DurationUs)
			}
		}
	})
}

// TestFirstTokenOnSockets: over real sockets, ttft and ttfb agree within 2 ms with the stub's record, at the
// median and at the third quartile of 40 streams, beside twice what a bare socket needs to hand a byte over
// at the same time.
func TestFirstTokenOnSockets(t *testing.T) {
	up, url := startStub(t, stub.Config{FirstToken: 60 * time.Millisecond, PingInterval: 15 * time.Millisecond, TokenGap: time.Millisecond})
	f := startFront(t, url)
	handover := startHandovers(t)
	var ttft, ttfb, bare []time.Duration
	for i := range 40 {
		id := fmt.Sprint("n", i)
		nc := dial(t, f.addr)
		send(t, nc, postOf("/v1/chat/completions", id, chat(3, "")))
		readReply(t, bufio.NewReader(nc), http.MethodPost)
		_ = nc.Close()
		bare = append(bare, handover())
		rec := f.rows.row(t, id)
		ex := awaitStub(t, up, id, func(e stub.Exchange) bool { return !e.Ended.IsZero() })
		if !rec.TTFTUs.Valid || !rec.TTFBUs.Valid {
			t.Fatalf("absent: ttft %v, ttfb %v", rec.TTFTUs, rec.TTFBUs)
		}
		ttft = append(ttft, (time.Duration(rec.TTFTUs.V)*time.Microsecond - ex.First.Sub(rec.StartedAt)).Abs())
		ttfb = append(ttfb, (time.Duration(rec.TTFBUs.V)*time.Microsecond - ex.Headed.Sub(rec.StartedAt)).Abs())
	}
	for _, q := range []float64{0.5, 0.75} {
		off, control := max(quantile(ttft, q), quantile(ttfb, q)), quantile(bare, q)
		t.Logf("difference to the stub's record at quantile %v: %v; a bare socket takes %v", q, off, control)
		if off > 2*time.Millisecond+2*control { // there and back
			t.Errorf("at quantile %v ttft or ttfb differs by %v; a bare socket takes %v", q, off, control)
		}
	}
}

// quantile of durations, by the nearest rank below.
func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Clone(d)
	slices.Sort(s)
	return s[int(q*float64(len(s)-1))]
}

// startHandovers returns a function that measures from a byte's write to its read over loopback, by a reader
// with a thread that sleeps as a stream's does.
func startHandovers(t *testing.T) func() time.Duration {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	from := dial(t, ln.Addr().String())
	to, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.Close() })
	read := make(chan time.Time)
	go func() { // ends with to
		for buf := make([]byte, 1); ; {
			if _, err := to.Read(buf); err != nil {
				return
			}
			read <- time.Now()
		}
	}()
	return func() time.Duration {
		wrote := time.Now()
		send(t, from, "x")
		return (<-read).Sub(wrote)
	}
}

// TestUnstreamedReply: a reply that comes in one piece has a ttfb and no ttft.
func TestUnstreamedReply(t *testing.T) {
	_, url := startStub(t, stub.Config{FirstToken: 20 * time.Millisecond, TokenGap: time.Millisecond})
	f := startFront(t, url)
	nc := dial(t, f.addr)
	send(t, nc, postOf("/v1/chat/completions", "whole", `{"messages":[{"role":"user","content":"x"}],"max_tokens":3}`))
	if resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost); resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	rec := f.rows.row(t, "whole")
	if rec.TTFTUs.Valid || !rec.TTFBUs.Valid || rec.OutputTokens != meter.Some(3) {
		t.Errorf("ttft %v, ttfb %v, tokens %v", rec.TTFTUs, rec.TTFBUs, rec.OutputTokens)
	}
}
