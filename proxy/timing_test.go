package proxy

import (
	"bufio"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
)

// TestFirstTokenIsExact: head at 5 ms, pings every 100 ms, role-only event and first token at 700 ms.
// In a bubble time only passes where the stub waits, so nothing is left to tolerate.
func TestFirstTokenIsExact(t *testing.T) {
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

// TestFirstTokenOnSockets: over real sockets the row agrees within 2 ms (median of 20) with what the stub
// recorded, and with what a bare socket takes to hand a byte over on a machine that others use.
func TestFirstTokenOnSockets(t *testing.T) {
	up, url := startStub(t, stub.Config{FirstToken: 60 * time.Millisecond, PingInterval: 15 * time.Millisecond, TokenGap: time.Millisecond})
	f := startFront(t, url)
	rounds(t, 20, func(round int) error {
		ttft, ttfb := firstTokens(t, up, f, round)
		bare := handovers(t, len(ttft))
		t.Logf("difference to the stub's record, median of %d: ttft %v, ttfb %v; a bare socket takes %v", len(ttft), median(ttft), median(ttfb), median(bare))
		if m := max(median(ttft), median(ttfb)); m > 2*time.Millisecond+2*median(bare) { // there and on
			return fmt.Errorf("ttft differs by %v, ttfb by %v; a bare socket takes %v", median(ttft), median(ttfb), median(bare))
		}
		return nil
	})
}

// handovers are n times from a byte's write to its read on a connection over loopback, at the pace of firstTokens.
func handovers(t *testing.T, n int) (took []time.Duration) {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	from := dial(t, ln.Addr().String())
	to, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	read := make(chan time.Time)
	go func() { // ends with to
		defer close(read)
		for buf := make([]byte, 1); ; {
			if _, err := to.Read(buf); err != nil {
				return
			}
			read <- time.Now()
		}
	}()
	for range n {
		<-time.After(20 * time.Millisecond) // the reader's thread sleeps, as a stream's does
		wrote := time.Now()
		send(t, from, "x")
		took = append(took, (<-read).Sub(wrote))
	}
	return took
}

// firstTokens plays 20 streams and says by how much row and stub differ.
func firstTokens(t *testing.T, up *stub.Server, f *front, round int) (ttft, ttfb []time.Duration) {
	t.Helper()
	for i := range 20 {
		id := fmt.Sprintf("n%d-%d", round, i)
		nc := dial(t, f.addr)
		send(t, nc, postOf("/v1/chat/completions", id, chat(3, "")))
		readReply(t, bufio.NewReader(nc), http.MethodPost)
		_ = nc.Close()
		rec := f.rows.row(t, id)
		ex := awaitStub(t, up, id, func(e stub.Exchange) bool { return !e.Ended.IsZero() })
		if !rec.TTFTUs.Valid || !rec.TTFBUs.Valid {
			t.Fatalf("absent: ttft %v, ttfb %v", rec.TTFTUs, rec.TTFBUs)
		}
		// The row counts from P0; the stub's stamps are put on the same zero by the row's wall-clock start,
		// which carries a monotonic reading.
		ttft = append(ttft, (time.Duration(rec.TTFTUs.V)*time.Microsecond - ex.First.Sub(rec.StartedAt)).Abs())
		ttfb = append(ttfb, (time.Duration(rec.TTFBUs.V)*time.Microsecond - ex.Headed.Sub(rec.StartedAt)).Abs())
	}
	return ttft, ttfb
}

// TestUnstreamedHasNoFirstToken: a reply that comes in one piece has a ttfb and no ttft.
func TestUnstreamedHasNoFirstToken(t *testing.T) {
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
