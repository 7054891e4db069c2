package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wattline/deploy/llama"
	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
)

// leaveWithin is how much later than bare sockets wattline may close the upstream connection after a FIN.
const leaveWithin = 50 * time.Millisecond

// TestDepartures: at any moment, the upstream connection is closed within 50 ms of what a bare relay
// takes, and the row says cancelled and keeps what was seen.
func TestDepartures(t *testing.T) {
	up, url := startStub(t, stub.Config{Slots: 1000, HeaderDelay: 20 * time.Millisecond, FirstToken: 60 * time.Millisecond, TokenGap: 5 * time.Millisecond})
	f := startFront(t, url)
	body := chat(100_000, "") // eight minutes: none is over before its client has left
	headed := func(e stub.Exchange) bool { return !e.Headed.IsZero() }
	arrived := func(e stub.Exchange) bool { return !e.Arrived.IsZero() }

	cases := []leaving{
		{"before the first byte", func(id string) string { return postOf("/v1/chat/completions", id, body) }, arrived, false},
		{"behind the head", func(id string) string { return postOf("/v1/chat/completions", id, body) }, headed, false},
		{"mid-stream", func(id string) string { return postOf("/v1/chat/completions", id, body) }, nil, false},
		{"half-close", func(id string) string { return postOf("/v1/chat/completions", id, body) }, nil, true},
		{"unstreamed", func(id string) string {
			return postOf("/v1/chat/completions", id, strings.Replace(body, "true", "false", 1))
		}, arrived, false},
		{"behind pipelined bytes", func(id string) string {
			return postOf("/v1/chat/completions", id, body) + postOf("/v1/chat/completions", id+"-second", body)
		}, nil, false},
		{"behind a pipelined half head", func(id string) string {
			return postOf("/v1/chat/completions", id, body) + "POST /v1/chat"
		}, arrived, false},
		{"behind 60 kB of pipelined bytes", func(id string) string { // more would hold the FIN back in the client's kernel
			return postOf("/v1/chat/completions", id, body) + postOf("/nothing", id+"-second", strings.Repeat("x", 60<<10))
		}, headed, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var closes paired
			for i := range 10 {
				closes.add(c.leave(t, up, f, strings.ReplaceAll(fmt.Sprintf("%s %d", c.name, i), " ", "-")))
			}
			closes.check(t, "from FIN to the upstream's close", leaveWithin)
		})
	}
	for _, rec := range f.rows.list() {
		if strings.HasSuffix(rec.ClientRequestID, "-second") {
			t.Errorf("a pipelined request behind a client that left was forwarded: %s", rec.ClientRequestID)
		}
	}
}

// leaving is a moment at which a client leaves.
type leaving struct {
	name  string
	send  func(id string) string
	until func(stub.Exchange) bool // nil: the client has read the first token
	half  bool                     // only the sending half is closed: it counts as leaving
}

// leave plays the case once and returns how long after the FIN the upstream connection was closed, and a bare
// relay's.
func (c leaving) leave(t *testing.T, up *stub.Server, f *front, id string) (took, control time.Duration) {
	t.Helper()
	bare := startBareRelay(t)
	nc := dial(t, f.addr)
	send(t, nc, c.send(id))
	if c.until == nil {
		untilMarker(t, nc, `"content":"`)
	} else {
		awaitStub(t, up, id, c.until)
	}
	bareTook := bare.leave()
	left := time.Now()
	if c.half {
		_ = nc.CloseWrite()
	} else {
		_ = nc.Close()
	}
	ex := awaitStub(t, up, id, func(e stub.Exchange) bool { return !e.PeerClosed.IsZero() })
	rec := f.rows.row(t, id)
	if rec.Outcome != meter.Cancelled {
		t.Errorf("outcome %q (%s)", rec.Outcome, rec.Error)
	}
	if c.until == nil && (rec.OutputEvents.V < 1 || !rec.TTFTUs.Valid) {
		t.Errorf("observed: events %+v, ttft %+v", rec.OutputEvents, rec.TTFTUs)
	}
	return ex.PeerClosed.Sub(left), bareTook()
}

// TestDepartureMidUpload: the upstream sees its connection close too, and no row is lost.
func TestDepartureMidUpload(t *testing.T) {
	ended := make(chan time.Time, 1)
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		_, _ = io.Copy(io.Discard, br)
		ended <- time.Now()
	})
	f := startFront(t, url)
	var closes paired
	for i := range 10 {
		id := fmt.Sprint("up", i)
		bare := startBareRelay(t)
		nc := dial(t, f.addr)
		send(t, nc, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: "+id+"\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 300000))
		bareTook := bare.leave()
		left := time.Now()
		_ = nc.Close()
		closes.add((<-ended).Sub(left), bareTook())
		if rec := f.rows.row(t, id); rec.Outcome != meter.Cancelled {
			t.Errorf("outcome %q (%s)", rec.Outcome, rec.Error)
		}
	}
	closes.check(t, "from FIN to the upstream's close, behind 300 kB", leaveWithin+100*time.Millisecond)
}

// TestDepartureWhileDialling: whether the upstream can be had is not known yet when the client goes, and its row says
// that it went, not that the upstream failed.
func TestDepartureWhileDialling(t *testing.T) {
	fail := make(chan struct{})
	f := startFront(t, "http://127.0.0.1:1", func(c *Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			<-fail
			return nil, errors.New("it fails")
		}
	})
	nc := dial(t, f.addr)
	send(t, nc, postOf("/completion", "dialling", chat(1, "")))
	f.awaitLive(t, 1)
	_ = nc.Close()
	eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, x := range f.live {
			return x.state.Load() == cancelled
		}
		return false
	}, func() string { return "nobody notices that the client has left" })
	close(fail)
	if rec := f.rows.row(t, "dialling"); rec.Outcome != meter.Cancelled {
		t.Errorf("row: %s %q", rec.Outcome, rec.Error)
	}
}

// TestDepartureFromRealServer: mid-decode, the real server's slot is free within 250 ms of when it would be had the
// client been connected directly. During prefill, and for an unstreamed reply, this server works on: the row says
// cancelled all the same, and how long the slot stays busy is logged beside what the request takes undisturbed.
func TestDepartureFromRealServer(t *testing.T) {
	srv := llamatest.Start(t, "-np", "1", "-c", "16384", "-t", "1", "-tb", "1")
	f := startFront(t, srv.URL())

	leaveDecoding := func(addr, id string) time.Duration {
		nc := dial(t, addr)
		send(t, nc, postOf("/completion", id, `{"prompt":"write some code","stream":true,"n_predict":100000,"ignore_eos":true}`))
		untilMarker(t, nc, `"tokens_predicted":20,`)
		_ = nc.Close()
		return llamatest.AwaitBusy(t, srv, 0, patience)
	}
	var freed paired
	for i := range 20 {
		id := fmt.Sprint("decode", i)
		freed.add(leaveDecoding(f.addr, id), leaveDecoding(strings.TrimPrefix(srv.URL(), "http://"), id+"-direct"))
		if rec := f.rows.row(t, id); rec.Outcome != meter.Cancelled || rec.OutputEvents.V < 15 {
			t.Errorf("row: %s, %d events", rec.Outcome, rec.OutputEvents.V)
		}
	}
	freed.check(t, "mid-decode: from FIN to a free slot", 250*time.Millisecond)

	var noticed paired
	for _, c := range []struct {
		name string
		most int
		body func(size int) string
	}{
		{"prefill", 3200, func(size int) string {
			return `{"prompt":"` + strings.Repeat("write some code ", size) + `","stream":true,"n_predict":1,"cache_prompt":false}`
		}},
		{"unstreamed", 12000, func(size int) string {
			return fmt.Sprintf(`{"prompt":"write some code","n_predict":%d,"ignore_eos":true,"cache_prompt":false}`, size)
		}},
	} {
		// Large enough that there is time to see the slot busy and to leave, on a fast machine too.
		size := 200
		whole := undisturbed(t, srv, f, c.name+"-whole", c.body(size))
		for whole < 300*time.Millisecond && size < c.most {
			size = min(2*size, c.most)
			whole = undisturbed(t, srv, f, fmt.Sprint(c.name, "-whole", size), c.body(size))
		}
		for i := range 5 {
			w := leaveWorking(t, srv, f, fmt.Sprint(c.name, i), c.body(size))
			t.Logf("%s of size %d: takes %v undisturbed; its row ended %v after the client had left, the slot was free %v after", c.name, size, whole, w.rowEnded, w.freed)
			if w.rowEnded < 0 { // over before the client had left
				continue
			}
			noticed.add(w.rowEnded, w.bare)
			if w.outcome != meter.Cancelled {
				t.Errorf("%s: outcome %q", c.name, w.outcome)
			}
			if w.freed > 3*whole+time.Minute {
				t.Errorf("%s: the slot stayed busy for %v", c.name, w.freed)
			}
		}
	}
	if n := len(noticed.took); n < 5 {
		t.Fatalf("%d of 10 clients left before their reply: this machine is too busy", n)
	}
	noticed.check(t, "while the server works: from FIN to the row's end", leaveWithin)
}

// undisturbed returns how long a request takes.
func undisturbed(t *testing.T, srv *llama.Server, f *front, id, body string) time.Duration {
	t.Helper()
	nc := dial(t, f.addr)
	began := time.Now()
	send(t, nc, postOf("/completion", id, body))
	readReply(t, bufio.NewReader(nc), "POST")
	whole := time.Since(began)
	llamatest.AwaitBusy(t, srv, 0, patience)
	return whole
}

// leftWorking says what came of a client that left while the server worked: how long after the FIN its row ended, a bare
// relay noticed its own client's FIN, and the slot was free.
type leftWorking struct {
	rowEnded, bare, freed time.Duration
	outcome               meter.Outcome
}

// leaveWorking sends a request and leaves it while the server's one slot works on it.
func leaveWorking(t *testing.T, srv *llama.Server, f *front, id, body string) leftWorking {
	t.Helper()
	bare := startBareRelay(t)
	nc := dial(t, f.addr)
	send(t, nc, postOf("/completion", id, body))
	over := make(chan struct{})
	go func() { // ends with the reply, which begins when the work is done, or with the connection
		defer close(over)
		_, _ = nc.Read(make([]byte, 1))
	}()
	for working := true; working && llamatest.Busy(llamatest.Slots(t, srv)) != 1; {
		select {
		case <-over:
			working = false
		default:
		}
	}
	bareTook := bare.leave()
	at := time.Now()
	_ = nc.Close()
	<-over
	rec := f.rows.row(t, id)
	ended := rec.StartedAt.Add(time.Duration(rec.DurationUs.V) * time.Microsecond)
	freed := llamatest.AwaitBusy(t, srv, 0, patience)
	return leftWorking{rowEnded: ended.Sub(at), bare: bareTook(), freed: freed, outcome: rec.Outcome}
}
