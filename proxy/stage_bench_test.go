package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"wattline/meter"
)

// The stages of the data path, one by one. Those behind it have their own: meter (BenchmarkTokenEvent),
// meter/energy (BenchmarkEvents), sink/store (BenchmarkQueue, BenchmarkWrite), sink/otlp (BenchmarkTracing).

const benchHead = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:11433\r\nUser-Agent: OpenAI/Python 1.99.0\r\nAccept: application/json\r\n" +
	"Content-Type: application/json\r\nAuthorization: Bearer sk-none\r\nX-Claude-Code-Session-Id: 0af7651916cd43dd8448eb211c80319c\r\nContent-Length: 2\r\n\r\n"

// loopbackPair is a real connection: the accepted end and the dialled end.
func loopbackPair(tb testing.TB, ln net.Listener) (server, client net.Conn) {
	tb.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	return server, client
}

func benchServer(tb testing.TB) (*Server, net.Listener) {
	tb.Helper()
	up, err := ParseUpstream("http://127.0.0.1:1")
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Config{Upstream: up, Identify: &meter.Identify{Mode: meter.IdentifyHash, Key: make([]byte, 32), SessionHeaders: []string{"X-Claude-Code-Session-Id"}}})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close(); s.watcher.Close() })
	return s, &listener{Listener: ln, srv: s}
}

// BenchmarkAccept takes and closes a connection, its dialling included.
func BenchmarkAccept(b *testing.B) {
	_, ln := benchServer(b)
	b.ReportAllocs()
	for b.Loop() {
		server, client := loopbackPair(b, ln)
		client.Close()
		server.Close()
	}
}

// parsed makes an exchange of a head that has arrived.
func parsed(tb testing.TB, s *Server, c *clientConn) *exchange {
	c.head.Reset()
	c.head.Raw = append(c.head.Raw[:0], benchHead...)
	if err := c.head.ParseRequest(); err != nil {
		tb.Fatal(err)
	}
	c.arrived = time.Now()
	return newExchange(s, c)
}

// BenchmarkParse is a head's parsing and checking, and the exchange and row that are made of it.
func BenchmarkParse(b *testing.B) {
	s, ln := benchServer(b)
	server, client := loopbackPair(b, ln)
	defer client.Close()
	c := server.(*clientConn)
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		meterPool.Put(parsed(b, s, c).meter)
	}
}

// TestParseAllocs: what a request costs in allocations before it is sent on is bounded.
func TestParseAllocs(t *testing.T) {
	s, ln := benchServer(t)
	server, client := loopbackPair(t, ln)
	defer client.Close()
	c := server.(*clientConn)
	defer c.Close()
	if n := testing.AllocsPerRun(200, func() { meterPool.Put(parsed(t, s, c).meter) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}

// TestAcceptAllocs counts a connection's, without the client's side of it.
func TestAcceptAllocs(t *testing.T) {
	_, ln := benchServer(t)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	cycle := func(ln net.Listener) func() {
		return func() {
			server, client := loopbackPair(t, ln)
			client.Close()
			server.Close()
		}
	}
	bare := testing.AllocsPerRun(50, cycle(raw))
	if n := testing.AllocsPerRun(50, cycle(ln)); n > bare+16 {
		t.Errorf("%v allocations, %v of them a bare listener's", n, bare)
	}
}

// events is a stream through a real Server, held by the upstream's and the client's end.
type events struct {
	up    net.Conn
	reply *bufio.Reader
	event []byte
	room  []byte
}

func startEvents(tb testing.TB) *events {
	tb.Helper()
	upln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { upln.Close() })
	up, err := ParseUpstream("http://" + upln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Config{Upstream: up})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go s.Serve(ln)
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.WriteString(client, benchHead+"{}"); err != nil {
		tb.Fatal(err)
	}
	e := &events{reply: bufio.NewReader(client)}
	if e.up, err = upln.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		e.up.Close()
		client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
	})
	head := "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := io.WriteString(e.up, head); err != nil {
		tb.Fatal(err)
	}
	for {
		line, err := e.reply.ReadString('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	data := `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" word"}}],"created":1763900000,"id":"chatcmpl-Vh2cQ0yV7bQ4mPz1nT8sRk5wLx3jDf6g","model":"m.gguf","object":"chat.completion.chunk"}` + "\n\n"
	e.event = fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data)
	e.room = make([]byte, len(e.event))
	return e
}

// pass sends one event and waits until the client has it.
func (e *events) pass(tb testing.TB) {
	if _, err := e.up.Write(e.event); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(e.reply, e.room); err != nil {
		tb.Fatal(err)
	}
	if string(e.room) != string(e.event) {
		tb.Fatalf("%q came of %q", e.room, e.event)
	}
}

// BenchmarkRelay is one event's way through real sockets, the upstream's write and the client's read included.
func BenchmarkRelay(b *testing.B) {
	e := startEvents(b)
	b.ReportAllocs()
	for b.Loop() {
		e.pass(b)
	}
}

// TestRelayAllocs: an event passes, is metered and reported without an allocation.
func TestRelayAllocs(t *testing.T) {
	e := startEvents(t)
	for range 50 {
		e.pass(t)
	}
	if n := testing.AllocsPerRun(500, func() { e.pass(t) }); n > mayDrop {
		t.Errorf("%v allocations an event", n)
	}
}
