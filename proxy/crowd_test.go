package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
)

// settled serves one request, so that all that a front starts once is running, and counts goroutines.
func settled(t *testing.T, f *front) int {
	t.Helper()
	nc := dial(t, f.addr)
	send(t, nc, "GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: settled\r\n\r\n")
	readReply(t, bufio.NewReader(nc), "GET")
	n := runtime.NumGoroutine()
	_ = nc.Close()
	f.rows.row(t, "settled")
	return n
}

// backTo waits until there are no more goroutines than before. fasthttp keeps idle workers for 2 s.
func backTo(t *testing.T, before int) {
	t.Helper()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before }, func() string {
		buf := make([]byte, 1<<20)
		return fmt.Sprintf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
}

// TestManyStreams: 200 streams at once, every one intact, every row there, goroutines back.
func TestManyStreams(t *testing.T) {
	const streams = 200
	srv := llamatest.Start(t, "-np", "8", "-c", "8192", "--threads-http", "256", "-t", "1", "-tb", "1")
	f := startFront(t, srv.URL())
	before := settled(t, f)
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			id := fmt.Sprint("crowd", i)
			c, err := net.Dial("tcp", f.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(3 * patience))
			_, _ = io.WriteString(c, postOf("/v1/chat/completions", id, chat(16, `,"ignore_eos":true`)))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || !bytes.HasSuffix(body, []byte("data: [DONE]\n\n")) || !bytes.Contains(body, []byte(`"predicted_n":16,`)) {
				t.Errorf("%s: %s, %v: %s", id, resp.Status, err, short(string(body)))
			}
		})
	}
	wg.Wait()
	for _, rec := range f.rows.awaitN(t, streams+1)[1:] {
		if rec.Outcome != meter.OK || rec.OutputTokens != meter.Some(16) || rec.QueueUs.V < 0 {
			t.Errorf("row %s: %s, %+v tokens, queue %+v", rec.ClientRequestID, rec.Outcome, rec.OutputTokens, rec.QueueUs)
		}
	}
	eventually(t, func() bool { return f.Live() == 0 && f.Conns() == 0 }, func() string { return "connections are left" })
	backTo(t, before)
}

// TestShutdown: asked to stop during 20 live streams, a Server takes no more connections,
// lets the streams end whole, and every row is handed over before Shutdown returns.
func TestShutdown(t *testing.T) {
	const streams = 20
	up, url := startStub(t, stub.Config{Slots: 100, FirstToken: 20 * time.Millisecond, TokenGap: 10 * time.Millisecond})
	parsed, err := ParseUpstream(url)
	if err != nil {
		t.Fatal(err)
	}
	rows, ln := newRows(), listen(t)
	srv, err := New(Config{Upstream: parsed, Observer: rows})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	idle := dial(t, ln.Addr().String()) // one that has had its reply and waits
	send(t, idle, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
	readReply(t, bufio.NewReader(idle), "GET")

	type received struct {
		tally
		err error
	}
	ends := make([]chan received, streams)
	for i := range ends {
		ends[i] = make(chan received, 1)
		nc := dial(t, ln.Addr().String())
		send(t, nc, postOf("/v1/chat/completions", fmt.Sprint("s", i), chat(40, "")))
		go func() {
			got, err := tallyReply(bufio.NewReader(nc))
			if _, behind := nc.Read(make([]byte, 1)); err == nil && !errors.Is(behind, io.EOF) {
				err = fmt.Errorf("behind the reply: %w", behind)
			}
			ends[i] <- received{got, err}
		}()
		awaitStub(t, up, fmt.Sprint("s", i), func(e stub.Exchange) bool { return e.Output > 0 })
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n := len(rows.list()); n != streams+1 {
		t.Errorf("%d rows when Shutdown returned", n)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	for i := range ends {
		got := <-ends[i]
		ex := awaitStub(t, up, fmt.Sprint("s", i), func(e stub.Exchange) bool { return !e.Ended.IsZero() })
		if got.err != nil || !ex.Complete || got.n != ex.WireBytes || got.sum.Sum64() != ex.WireSum {
			t.Errorf("stream %d: %v; the upstream wrote %d bytes (whole: %v), the client read %d", i, got.err, ex.WireBytes, ex.Complete, got.n)
		}
	}
	for _, rec := range rows.list() {
		if rec.Outcome != meter.OK {
			t.Errorf("row %s: %s", rec.ClientRequestID, rec.Outcome)
		}
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("connections are still taken")
	}
}

// TestShutdownWithIdleConnections: silent connections delay no other, new ones included.
// In a bubble, where each wait has its exact length.
func TestShutdownWithIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dial := bubbleFront(t, func(ln net.Listener) { startScripted(t, ln) })
		for range 20 {
			dial()
		}
		used := dial()
		send(t, used, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		readReply(t, bufio.NewReader(used), "GET")
		synctest.Wait()
		if n := f.Conns(); n != 21 {
			t.Errorf("%d connections", n)
		}
		began := time.Now()
		if err := f.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d < drainTime || d > drainTime+200*time.Millisecond {
			t.Errorf("Shutdown took %v", d)
		}
	})
}

// TestShutdownKeepAlive: a reply that began before the stop has not said that its connection closes, so
// the request that the client sends behind it is answered, and its reply says so. In a bubble: the stream ends
// long after idle connections were closed.
func TestShutdownKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := stub.New(stub.Config{FirstToken: 20 * time.Millisecond, TokenGap: 100 * time.Millisecond})
		f, dial := bubbleFront(t, stubOn(t, up))
		nc := dial()
		send(t, nc, postOf("/v1/chat/completions", "promised", chat(30, "")))
		time.Sleep(time.Second)
		ended := make(chan error, 1)
		go func() { ended <- f.Shutdown(t.Context()) }()
		br := bufio.NewReader(nc)
		if resp, body := readReply(t, br, http.MethodPost); resp.Close || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Fatalf("close %v: %s", resp.Close, short(body))
		}
		time.Sleep(drainTime / 2)
		send(t, nc, postOf("/completion", "behind", `{"prompt":"x","n_predict":1}`))
		if resp, body := readReply(t, br, http.MethodPost); resp.StatusCode != 200 || !resp.Close {
			t.Errorf("behind it: %s, close %v: %s", resp.Status, resp.Close, body)
		}
		if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("behind the last: %v", err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := len(f.rows.list()); n != 2 {
			t.Errorf("%d rows when Shutdown returned", n)
		}
	})
}

// TestShutdownDeadline: what has not ended by then is cut, at once, and its rows are there.
func TestShutdownDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := stub.New(stub.Config{Slots: 100, FirstToken: 20 * time.Millisecond, TokenGap: 10 * time.Millisecond})
		f, dial := bubbleFront(t, stubOn(t, up))
		for i := range 5 {
			nc := dial()
			send(t, nc, postOf("/v1/chat/completions", fmt.Sprint("s", i), chat(100000, "")))
			go func() { _, _ = io.Copy(io.Discard, nc) }()
		}
		time.Sleep(time.Second)
		const deadline = 7 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		began := time.Now()
		if err := f.Shutdown(ctx); err == nil {
			t.Error("nothing is said of the deadline")
		}
		if d := time.Since(began); d < deadline || d > deadline+100*time.Millisecond {
			t.Errorf("Shutdown took %v", d)
		}
		recs := f.rows.list()
		if len(recs) != 5 {
			t.Errorf("%d rows", len(recs))
		}
		for _, rec := range recs {
			if rec.Outcome != meter.Cancelled || rec.OutputEvents.V < 700 {
				t.Errorf("row: %s with %+v events", rec.Outcome, rec.OutputEvents)
			}
		}
	})
}

// TestStorm: 2,000 streams, half of them cancelled at random points, the rest byte-identical to what the
// upstream wrote; then nothing is left. Under -race it takes half a minute on two busy cores.
func TestStorm(t *testing.T) {
	const streams = 2000
	up, url := startStub(t, stub.Config{
		Slots: streams, HeaderDelay: 20 * time.Millisecond, FirstToken: 300 * time.Millisecond, PingInterval: 50 * time.Millisecond,
		TokenGap: 60 * time.Millisecond, TokenJitter: 30 * time.Millisecond,
	})
	f := startFront(t, url)
	before := settled(t, f)
	var wg sync.WaitGroup
	fates := make([]fate, streams)
	for i := range fates {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			id := fmt.Sprint("storm", i)
			if i%2 == 0 {
				fates[i] = stormLeaver(f.addr, id, rng)
				return
			}
			got, err := stormClient(f.addr, id, rng)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			ex, err := up.Await(ctx, id, func(e stub.Exchange) bool { return !e.Ended.IsZero() })
			if err != nil {
				t.Error(err)
			} else if ex.WireBytes != got.n || ex.WireSum != got.sum.Sum64() {
				t.Errorf("%s: the upstream wrote %d bytes (%x), the client read %d (%x)", id, ex.WireBytes, ex.WireSum, got.n, got.sum.Sum64())
			}
		})
	}
	wg.Wait()
	for i, fate := range fates { // a connection may still wait to be accepted
		if fate == stayed || fate == left {
			f.rows.row(t, fmt.Sprint("storm", i))
		}
	}
	eventually(t, func() bool { return f.Live() == 0 && f.Conns() == 0 && up.Conns() == 0 }, func() string {
		return fmt.Sprintf("left: %d requests, %d client connections, %d upstream connections", f.Live(), f.Conns(), up.Conns())
	})
	checkFates(t, f, fates)
	backTo(t, before)
}

// checkFates compares the rows with what the clients did, when nothing is live any more.
func checkFates(t *testing.T, f *front, fates []fate) {
	t.Helper()
	rows, errs := map[string][]meter.Outcome{}, map[string]string{}
	for _, r := range f.rows.list() {
		rows[r.ClientRequestID] = append(rows[r.ClientRequestID], r.Outcome)
		errs[r.ClientRequestID] = r.Error
	}
	var count [4]int
	for i, fate := range fates {
		count[fate]++
		got := rows[fmt.Sprint("storm", i)]
		switch {
		case fate == stayed && len(got) == 1 && got[0] == meter.OK:
		case fate == left && len(got) == 1 && got[0] == meter.Cancelled:
		case fate == leftInHead && len(got) == 0:
		case fate == leftUnheard && (len(got) == 0 || len(got) == 1 && got[0] == meter.Cancelled):
		default:
			t.Errorf("storm%d, fate %d, has the rows %v %s", i, fate, got, errs[fmt.Sprint("storm", i)])
		}
	}
	t.Logf("%d stayed, %d left, %d of them within their head, %d perhaps before it was read; %d rows",
		count[stayed], len(fates)-count[stayed], count[leftInHead], count[leftUnheard], len(f.rows.list())-1)
	if count[left] < len(fates)/4 {
		t.Errorf("only %d left within a stream: the machine was too slow for this test", count[left])
	}
}

// tally counts and sums what a client reads, hop-by-hop lines apart.
type tally struct {
	n   int64
	sum interface {
		io.Writer
		Sum64() uint64
	}
}

// fate says what a client did; its row has to say the same.
type fate uint8

const (
	stayed      fate = iota
	left             // behind its head: cancelled
	leftInHead       // no request, no row
	leftUnheard      // with a reset, and nothing had come back: the reset may have taken the request with it
)

// stormClient plays a client that stays to the end of its stream.
func stormClient(addr, id string, rng *rand.Rand) (tally, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return tally{}, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	msg := postOf("/v1/chat/completions", id, chat(5+rng.IntN(40), ""))
	if err := inTwo(c, msg, rng); err != nil {
		return tally{}, err
	}
	return tallyReply(bufio.NewReader(c))
}

// stormLeaver plays one that leaves at a random byte or time.
func stormLeaver(addr, id string, rng *rand.Rand) fate {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return leftInHead
	}
	defer c.Close()
	msg := postOf("/v1/chat/completions", id, chat(100_000, ""))
	within := rng.IntN(4)
	if within == 0 { // within the request
		n := rng.IntN(len(msg))
		_, _ = io.WriteString(c, msg[:n])
		if n < strings.Index(msg, "\r\n\r\n")+4 {
			return leftInHead
		}
		return left
	}
	if err := inTwo(c, msg, rng); err != nil {
		return leftUnheard
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * patience))
	if within == 1 { // at a time
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(1500)) * time.Millisecond))
	}
	n, _ := io.CopyN(io.Discard, c, 1+rng.Int64N(6000))
	if rng.IntN(2) == 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
		if n == 0 {
			return leftUnheard
		}
	}
	return left
}

// inTwo writes a request in two pieces.
func inTwo(c net.Conn, msg string, rng *rand.Rand) error {
	cut := rng.IntN(len(msg))
	for _, part := range []string{msg[:cut], msg[cut:]} {
		if _, err := io.WriteString(c, part); err != nil {
			return err
		}
	}
	return nil
}

// tallyReply counts and sums a stub's stream as the stub does. Both heads carry hop-by-hop lines: the stub's
// says Keep-Alive, which wattline takes out, and where wattline says that it closes, that is left out here.
// So the head is completed before it is summed.
func tallyReply(br *bufio.Reader) (tally, error) {
	got := tally{sum: crc64.New(crc64.MakeTable(crc64.ECMA))}
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := br.ReadString('\n')
		if err != nil {
			return got, err
		}
		if line != "Connection: close\r\n" {
			head += line
		}
	}
	head = strings.TrimSuffix(head, "\r\n") + "Keep-Alive: timeout=5, max=100\r\n\r\n"
	_, _ = io.WriteString(got.sum, head)
	got.n = int64(len(head))
	for {
		line, err := br.ReadString('\n')
		_, _ = io.WriteString(got.sum, line)
		got.n += int64(len(line))
		if err != nil {
			return got, err
		}
		if line == "0\r\n" { // no payload line of the stub's is that
			last, err := br.ReadString('\n')
			_, _ = io.WriteString(got.sum, last)
			got.n += int64(len(last))
			return got, err
		}
	}
}
