package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
)

// real is the llama-server that most tests share. Tests that look at its slots start their own. A slot has
// room for seconds of tokens, so that a client which aborts does so before the end.
var real = llamatest.Shared{Args: []string{"--threads-http", "32", "--metrics", "-t", "1", "-tb", "1", "-c", "65536"}}

func TestMain(m *testing.M) { os.Exit(real.Main(m)) }

// patience bounds every wait in these tests; nothing here takes so long unless it hangs.
const patience = 1 * time.Minute

// rows is an Observer that keeps every row and lets a test wait for one.
type rows struct {
	mu      sync.Mutex // guards what follows
	all     []*meter.Record
	changed chan struct{}
}

func newRows() *rows { return &rows{changed: make(chan struct{})} }

func (r *rows) Observe(Event) {}

func (r *rows) Done(_ uint64, _ int64, rec *meter.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rec)
	close(r.changed)
	r.changed = make(chan struct{})
}

// list copies the rows so far.
func (r *rows) list() []*meter.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// await waits for a row that match accepts.
func (r *rows) await(t testing.TB, match func(*meter.Record) bool) *meter.Record {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		changed, all := r.changed, r.all
		r.mu.Unlock()
		for _, rec := range all {
			if match(rec) {
				return rec
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no such row among %d", len(all))
		}
	}
}

// row waits for the row of the request that had X-Request-Id: id.
func (r *rows) row(t testing.TB, id string) *meter.Record {
	t.Helper()
	return r.await(t, func(rec *meter.Record) bool { return rec.ClientRequestID == id })
}

// awaitN waits for n rows.
func (r *rows) awaitN(t testing.TB, n int) []*meter.Record {
	t.Helper()
	r.await(t, func(*meter.Record) bool { return len(r.list()) >= n })
	return r.list()
}

// front is a wattline data path under test.
type front struct {
	*Server
	rows *rows
	addr string
}

func (f *front) url() string { return "http://" + f.addr }

// startFront puts a Server in front of an upstream, on a free port.
func startFront(t testing.TB, upstream string, changes ...func(*Config)) *front {
	t.Helper()
	return serveFront(t, listen(t), upstream, changes...)
}

// serveFront is startFront on a listener of the caller's.
func serveFront(t testing.TB, ln net.Listener, upstream string, changes ...func(*Config)) *front {
	t.Helper()
	up, err := ParseUpstream(upstream)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{rows: newRows(), addr: ln.Addr().String()}
	cfg := Config{Name: "test", Upstream: up, Observer: f.rows, DialTimeout: patience}
	for _, change := range changes {
		change(&cfg)
	}
	if f.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(f.Shutdown(ctx), <-served); err != nil {
			t.Errorf("end of the front: %v", err)
		}
	})
	return f
}

// bubbleFront puts a Server in front of an upstream that serve runs, all in memory, for a test inside a
// synctest bubble: time passes there only while all goroutines wait, so that nothing has to be tolerated.
// The returned function dials the front.
func bubbleFront(t *testing.T, serve func(net.Listener), changes ...func(*Config)) (*front, func() net.Conn) {
	t.Helper()
	upstreamLn, frontLn := fasthttputil.NewInmemoryListener(), memListener{fasthttputil.NewInmemoryListener()}
	t.Cleanup(func() { time.Sleep(time.Minute) }) // fasthttp's idle workers end by the (fake) clock
	serve(upstreamLn)
	changes = append(changes, func(c *Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			nc, err := upstreamLn.Dial()
			return memConn{nc}, err
		}
	})
	f := serveFront(t, frontLn, "http://upstream", changes...)
	return f, func() net.Conn {
		t.Helper()
		nc, err := frontLn.Dial()
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
}

// stubOn is a serve for bubbleFront: a stub that is closed with the test.
func stubOn(t *testing.T, up *stub.Server) func(net.Listener) {
	return func(ln net.Listener) {
		served := make(chan error, 1)
		go func() { served <- up.Serve(ln) }()
		t.Cleanup(func() {
			if err := errors.Join(up.Close(), <-served); err != nil {
				t.Errorf("end of the stub: %v", err)
			}
		})
	}
}

// memListener's connections report a deadline as a socket does.
type memListener struct{ *fasthttputil.InmemoryListener }

func (l memListener) Accept() (net.Conn, error) {
	nc, err := l.InmemoryListener.Accept()
	if err != nil {
		return nil, err
	}
	return memConn{nc}, nil
}

type memConn struct{ net.Conn }

func (c memConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, asOnSocket(err)
}

func (c memConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, asOnSocket(err)
}

func asOnSocket(err error) error {
	if errors.Is(err, fasthttputil.ErrTimeout) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// paired are measurements of the data path, each with a control of bare sockets that was measured at the same
// time, so that a busy machine shows in both.
type paired struct{ took, control []time.Duration }

func (p *paired) add(took, control time.Duration) {
	p.took, p.control = append(p.took, took), append(p.control, control)
}

// check counts those that took more than within longer than twice their control. One in ten may, since a
// machine can stall between the two. All measurements count.
func (p *paired) check(t testing.TB, what string, within time.Duration) {
	t.Helper()
	late := 0
	for i, took := range p.took {
		if took > within+2*p.control[i] {
			late++
		}
	}
	t.Logf("%s: median %v, worst %v; of bare sockets %v, %v; %d of %d late", what, median(p.took), slices.Max(p.took),
		median(p.control), slices.Max(p.control), late, len(p.took))
	if 10*late > len(p.took) {
		t.Errorf("%s: %d of %d took more than %v longer than twice what bare sockets take", what, late, len(p.took), within)
	}
}

// bareRelay is a control for departures: two connections and a goroutine between them that closes the second
// when the first ends.
type bareRelay struct {
	client *net.TCPConn
	ended  chan time.Time
}

func startBareRelay(t testing.TB) *bareRelay {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	pair := func() (client *net.TCPConn, server net.Conn) {
		client = dial(t, ln.Addr().String())
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	client, in := pair()
	out, upstream := pair()
	r := &bareRelay{client: client, ended: make(chan time.Time, 1)}
	go func() { // ends with client
		_, _ = io.Copy(io.Discard, in)
		_ = in.Close()
		_ = out.Close()
	}()
	go func() { // ends with out
		_, _ = io.Copy(io.Discard, upstream)
		r.ended <- time.Now()
		_ = upstream.Close()
	}()
	return r
}

// leave closes the client and returns a function that waits for the time at which the upstream noticed.
func (r *bareRelay) leave() func() time.Duration {
	began := time.Now()
	_ = r.client.Close()
	return func() time.Duration { return (<-r.ended).Sub(began) }
}

// awaitLive waits until n requests are live.
func (f *front) awaitLive(t testing.TB, n int) {
	t.Helper()
	eventually(t, func() bool { return f.Live() == n }, func() string { return fmt.Sprintf("%d requests are live, want %d", f.Live(), n) })
}

// eventually asks every millisecond until ok, for as long as patience lasts.
func eventually(t testing.TB, ok func() bool, otherwise func() string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(until) {
			t.Fatal(otherwise())
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// startStub serves a stub on a free port.
func startStub(t testing.TB, cfg stub.Config) (*stub.Server, string) {
	t.Helper()
	cfg.Record = true
	ln := listen(t)
	srv := stub.New(cfg)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(srv.Close(), <-served); err != nil {
			t.Errorf("end of the stub: %v", err)
		}
	})
	return srv, "http://" + ln.Addr().String()
}

// awaitStub waits until the stub's record of request id is as wanted.
func awaitStub(t testing.TB, srv *stub.Server, id string, until func(stub.Exchange) bool) stub.Exchange {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ex, err := srv.Await(ctx, id, until)
	if err != nil {
		t.Fatal(err)
	}
	return ex
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	nc, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = nc.Close() })
	return nc.(*net.TCPConn)
}

// send writes raw bytes.
func send(t testing.TB, c net.Conn, msg string) {
	t.Helper()
	if _, err := io.WriteString(c, msg); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// postOf makes a POST's bytes.
func postOf(path, id, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: llama\r\nX-Request-Id: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, id, len(body), body)
}

// readReply reads one reply, body included.
func readReply(t testing.TB, br *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read the reply: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the reply's body: %v", err)
	}
	_ = resp.Body.Close()
	return resp, string(body)
}

// chat is a chat request's body.
func chat(maxTokens int, more string) string {
	return fmt.Sprintf(`{"messages":[{"role":"user","content":"write some code please"}],"stream":true,"max_tokens":%d%s}`, maxTokens, more)
}

// median of durations.
func median(d []time.Duration) time.Duration {
	s := slices.Clone(d)
	slices.Sort(s)
	return s[len(s)/2]
}

// untilMarker reads from c until marker has come by and returns all that was read.
func untilMarker(t testing.TB, c io.Reader, marker string) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), marker) {
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("read until %q: %v after %q", marker, err, got.String())
		}
	}
	return got.String()
}
