package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// FuzzDifferential: requests, chunkings and split points drawn from the input are played direct and
// through wattline, and each side must have received equal bytes, hop-by-hop lines apart. Where the
// client disconnects, each side must have received the beginning of what it would have.
func FuzzDifferential(f *testing.F) {
	rng := rand.New(rand.NewPCG(2, 3))
	for range 60 {
		b := make([]byte, 20+rng.IntN(180))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	up := startScripted(f, listen(f))
	var dialled, closed atomic.Int64
	plays := int64(0)
	fr := serveFront(f, countingListener{listen(f), &closed}, up.url(), func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				dialled.Add(1)
			}
			return nc, err
		}
	})
	// quiet waits until what was played is over on all sides, so that the next play starts anew.
	quiet := func(t *testing.T) {
		eventually(t, func() bool {
			up.mu.Lock()
			accepted, open := up.accepted, len(up.conns)
			up.mu.Unlock()
			fr.pool.mu.Lock()
			defer fr.pool.mu.Unlock()
			return closed.Load() == plays && fr.Live() == 0 && int64(accepted) == dialled.Load() && open == len(fr.pool.conns)
		}, func() string { return "connections are left" })
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		p := drawPlan(input)
		plays++
		server, client := p.play(t, up, fr.addr, quiet)
		if p.leaveAt < 0 {
			dialled.Add(1)
			directServer, directClient := p.play(t, up, up.ln.Addr().String(), quiet)
			if directServer != server {
				t.Errorf("the server received\n%s\ndirect, and\n%s\nthrough wattline", short(directServer), short(server))
			}
			if directClient != client {
				t.Errorf("the client received\n%s\ndirect, and\n%s\nthrough wattline", short(directClient), short(client))
			}
			return
		}
		whole := endToEnd(p.stream)
		if !strings.HasPrefix(whole, server) {
			t.Errorf("the server received\n%s\nwhich is no beginning of\n%s", short(server), short(whole))
		}
	})
}

// countingListener counts the connections that have come and been closed.
type countingListener struct {
	net.Listener
	closed *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c.(*net.TCPConn), l.closed}, nil
}

type countedConn struct {
	*net.TCPConn
	closed *atomic.Int64
}

func (c countedConn) Close() error {
	err := c.TCPConn.Close()
	c.closed.Add(1)
	return err
}

// plan lists what one client does on one connection.
type plan struct {
	stream  string // all requests
	methods []string
	pieces  []string
	leaveAt int // this many bytes are written and then the client leaves; -1: it stays
	reset   bool
}

// dice draws choices from a fuzzer's input; an exhausted one draws zeros.
type dice struct{ b []byte }

func (d *dice) below(n int) int {
	v := 0
	for range 2 {
		if len(d.b) > 0 {
			v = v<<8 | int(d.b[0])
			d.b = d.b[1:]
		}
	}
	return v % n
}

func pick[T any](d *dice, from ...T) T { return from[d.below(len(from))] }

func drawPlan(input []byte) *plan {
	d := &dice{input}
	p := &plan{leaveAt: -1}
	for range 1 + d.below(4) {
		method, raw := drawRequest(d)
		p.methods = append(p.methods, method)
		p.stream += raw
	}
	if d.below(4) == 0 {
		p.leaveAt, p.reset = d.below(len(p.stream)+1), d.below(2) == 0
	}
	for rest := p.stream; rest != ""; {
		n := len(rest)
		if d.below(3) > 0 {
			n = 1 + d.below(min(n, pick(d, 3, 50, 2000)))
		}
		p.pieces = append(p.pieces, rest[:n])
		rest = rest[n:]
		if len(p.pieces) > 60 {
			p.pieces = append(p.pieces, rest)
			rest = ""
		}
	}
	return p
}

// drawRequest draws one request that is not ambiguous.
func drawRequest(d *dice) (method, raw string) {
	method = pick(d, "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "X-Y")
	path := pick(d, "/echo", "/chunked", "/trailers", "/empty-chunked", "/gzip", "/range", "/odd", "/no-reason", "/hints", "/204", "/304", "/big-head", "/cors", "/listed")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\n", method, path, pick(d, "", "?a=b", "?x=%00&y", "?"))
	b.WriteString(pick(d, "Host: llama\r\n", "host:llama\r\n", "HOST: \t llama \r\n"))
	for range d.below(6) {
		b.WriteString(pick(d, "Accept: */*", "accept:x", "X-Empty:", "X-Long: "+strings.Repeat("l", d.below(3000)), "Cookie: a=1", "Cookie: b=2",
			"Connection: keep-alive", "Connection: X-Hop, x-none", "X-Hop: gone", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Range: bytes=0-1",
			"Origin: http://o", "X-Obs: \xe9", "Authorization: Bearer x", "Expect: something-else", "TE: trailers", "Accept-Encoding: gzip, br", "traceparent: 00-aa") + "\r\n")
	}
	switch body := d.bytes(pick(d, 0, 5, 300, 9000)); pick(d, "none", "sized", "chunked", "chunked") {
	case "none":
		b.WriteString("\r\n")
	case "sized":
		fmt.Fprintf(&b, "%s: %d\r\n\r\n%s", pick(d, "Content-Length", "content-length"), len(body), body)
	case "chunked":
		b.WriteString(pick(d, "Transfer-Encoding: chunked", "transfer-encoding:Chunked", "Transfer-Encoding: \tchunked ") + "\r\n\r\n")
		for len(body) > 0 {
			n := 1 + d.below(len(body))
			size := fmt.Sprintf(pick(d, "%x", "%X", "0%x", "%x "), n)
			fmt.Fprintf(&b, "%s%s\r\n%s\r\n", size, pick(d, "", "", ";x=y", ";q=\"a b\""), body[:n])
			body = body[n:]
		}
		b.WriteString(pick(d, "0", "00", "0;last") + "\r\n" + pick(d, "", "", "X-T: 1\r\n", "X-T: 1\r\nX-U: a: b\r\n") + "\r\n")
	}
	return method, b.String()
}

// bytes draws a body; line ends are frequent in it.
func (d *dice) bytes(n int) string {
	const alphabet = "\r\n0 aZ{\x00\xff:"
	rng := rand.New(rand.NewPCG(4, uint64(d.below(1<<16))))
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(b)
}

// play runs the plan and returns what server and client received, hop-by-hop lines taken out.
func (p *plan) play(t *testing.T, up *scripted, addr string, quiet func(*testing.T)) (server, client string) {
	t.Helper()
	up.received()
	nc := dial(t, addr)
	var got bytes.Buffer
	br := bufio.NewReader(io.TeeReader(nc, &got))
	if p.leaveAt >= 0 {
		left := p.leaveAt
		for _, piece := range p.pieces {
			piece = piece[:min(len(piece), left)]
			left -= len(piece)
			if _, err := io.WriteString(nc, piece); err != nil {
				break
			}
		}
		if p.reset {
			_ = nc.SetLinger(0)
		}
		_ = nc.Close()
		quiet(t)
		return endToEnd(up.received()), ""
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		for _, piece := range p.pieces {
			if _, err := io.WriteString(nc, piece); err != nil {
				return
			}
		}
	}()
	for _, method := range p.methods {
		for status := 0; status < 200; {
			resp, err := http.ReadResponse(br, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("reply to %s: %v after %s; sent %s", method, err, short(got.String()), short(p.stream))
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatalf("body of the reply to %s: %v", method, err)
			}
			status = resp.StatusCode
		}
	}
	<-written
	_ = nc.Close()
	quiet(t)
	return endToEnd(up.received()), endToEnd(got.String())
}
