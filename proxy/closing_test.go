package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
)

// lateSize is the size of the replies that are read late: more than a client's smallest buffer holds.
const lateSize = 9950

// lateServer answers each request, once released, with lateSize bytes.
type lateServer struct {
	url     string
	arrived atomic.Int64
	release chan struct{}
}

func startLate(t testing.TB) *lateServer {
	t.Helper()
	ln := listen(t)
	s := &lateServer{url: "http://" + ln.Addr().String(), release: make(chan struct{})}
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: s}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

// await waits until n requests have arrived.
func (s *lateServer) await(t testing.TB, n int64) {
	t.Helper()
	eventually(t, func() bool { return s.arrived.Load() == n }, func() string { return fmt.Sprintf("%d requests arrived, want %d", s.arrived.Load(), n) })
}

func (s *lateServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := strings.Repeat("z", lateSize)
	_, _ = io.Copy(io.Discard, r.Body)
	s.arrived.Add(1)
	<-s.release
	switch r.URL.Path {
	case "/sized":
		w.Header().Set("Content-Length", fmt.Sprint(lateSize))
		_, _ = io.WriteString(w, body)
	case "/chunked":
		_, _ = io.WriteString(w, body[:1000])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, body[1000:])
	default: // until the close
		nc, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(nc, "HTTP/1.0 200 OK\r\n\r\n"+body)
			_ = nc.Close()
		}
	}
}

// dialSmall dials with the smallest receive buffer, so that a reply stays at its sender until it is read.
func dialSmall(t testing.TB, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		cerr := raw.Control(func(fd uintptr) { err = setReceiveBuffer(fd, 2048) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	nc, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// lateKind is a request whose connection wattline closes behind the reply, and what the client sends behind it in a
// segment of its own.
type lateKind struct{ path, version, fields, behind string }

// TestLateReaders: 200 clients whose connection wattline closes behind the reply have sent bytes behind their request,
// and read only when wattline has closed. Each gets every byte, and its row says ok.
func TestLateReaders(t *testing.T) {
	cert, roots := certificate(t)
	up := startLate(t)
	plain := startFront(t, up.url)
	encrypted := serveFront(t, tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), up.url)
	const closes = "Host: x\r\nConnection: close\r\n"
	kinds := []lateKind{
		{"/sized", "1.0", "", "\r\n"},
		{"/sized", "1.1", closes, "\r\n"},
		{"/chunked", "1.1", closes, "\r\n"},
		{"/until-close", "1.1", "Host: x\r\n", "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"/chunked", "1.0", "Transfer-Encoding: chunked\r\n", strings.Repeat("x", 100<<10)},
		{"/sized", "1.1", closes, "over TLS"},
	}
	const tries = 200
	conns := make([]net.Conn, tries)
	fronts := make([]*front, tries)
	for i := range conns {
		k := kinds[i%len(kinds)]
		f := plain
		if k.behind == "over TLS" {
			f = encrypted
		}
		nc := dialSmall(t, f.addr)
		if f == encrypted {
			nc = tls.Client(nc, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
		}
		conns[i], fronts[i] = nc, f
		body := "Content-Length: 2\r\n\r\nhi"
		if strings.Contains(k.fields, "chunked") {
			body = "\r\n2\r\nhi\r\n0\r\n\r\n"
		}
		send(t, nc, fmt.Sprintf("POST %s HTTP/%s\r\nX-Request-Id: late%d\r\n%s%s", k.path, k.version, i, k.fields, body))
	}
	up.await(t, tries)
	for i, nc := range conns {
		send(t, nc, kinds[i%len(kinds)].behind)
	}
	close(up.release)
	for _, f := range []*front{plain, encrypted} {
		eventually(t, func() bool { return f.Conns() == 0 }, func() string { return fmt.Sprintf("%d connections stay open", f.Conns()) })
	}
	var wg sync.WaitGroup
	for i, nc := range conns {
		k := kinds[i%len(kinds)]
		wg.Go(func() {
			got, err := io.ReadAll(nc)
			if n := bytes.Count(got, []byte("z")); n != lateSize || err != nil {
				t.Errorf("try %d, %s HTTP/%s: %d of %d bytes, %v", i, k.path, k.version, n, lateSize, err)
			}
		})
	}
	wg.Wait()
	for i, f := range fronts {
		if rec := f.rows.row(t, fmt.Sprint("late", i)); rec.Outcome != meter.OK || rec.ResponseBytes != meter.Some(lateSize) {
			t.Errorf("try %d: row %s %q, %+v bytes", i, rec.Outcome, rec.Error, rec.ResponseBytes)
		}
	}
}

// countedListener's connections count what is written to them.
type countedListener struct {
	net.Listener
	wrote *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedWrites{nc.(*net.TCPConn), l.wrote}, nil
}

type countedWrites struct {
	*net.TCPConn
	wrote *atomic.Int64
}

func (c countedWrites) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.wrote.Add(int64(n))
	return n, err
}

// TestCutRepliesAreDelivered: what was relayed of a reply that breaks off reaches a client that reads late and has sent
// bytes behind its request: where a stop cuts the stream, and where the server resets a reply that runs until the close,
// which the client sees as a reset too.
func TestCutRepliesAreDelivered(t *testing.T) {
	body := strings.Repeat("z", lateSize)
	for _, c := range []struct {
		name, reply string
		reset       bool
	}{
		{"stop", fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", lateSize, body), false},
		{"broken", "HTTP/1.0 200 OK\r\n\r\n" + body, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			goOn := make(chan struct{})
			url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(nc, c.reply)
				<-goOn
				_ = nc.SetLinger(0)
			})
			wrote := new(atomic.Int64)
			f := serveFront(t, countedListener{listen(t), wrote}, url)
			nc := dialSmall(t, f.addr)
			send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: cut\r\n\r\n")
			send(t, nc, "\r\n")
			eventually(t, func() bool { return wrote.Load() >= lateSize }, func() string { return fmt.Sprintf("%d bytes were relayed", wrote.Load()) })
			ended := make(chan error, 1)
			if c.reset {
				close(goOn)
			} else {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				go func() { ended <- f.Shutdown(ctx) }()
			}
			if !c.reset {
				f.rows.row(t, "cut")
			}
			got, err := io.ReadAll(nc)
			if n := bytes.Count(got, []byte("z")); n != lateSize || (err != nil) != c.reset {
				t.Errorf("%d of %d bytes, %v", n, lateSize, err)
			}
			if want := map[bool]meter.Outcome{true: meter.Truncated, false: meter.Cancelled}[c.reset]; f.rows.row(t, "cut").Outcome != want {
				t.Errorf("row: %s", f.rows.row(t, "cut").Outcome)
			}
			if !c.reset {
				if err := <-ended; err == nil {
					t.Error("the stop says nothing of the stream it cut")
				}
				close(goOn)
			}
		})
	}
}
