package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"wattline/meter"
)

// TestWebSocket: a real client and a real server speak WebSocket through wattline, both ways at once, and
// each side's goodbye reaches the other.
func TestWebSocket(t *testing.T) {
	ln := listen(t)
	serverSaw := make(chan error, 2)
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: websocket.Handler(func(ws *websocket.Conn) {
		_ = websocket.Message.Send(ws, "hello") // before the client has said a word
		for {
			var msg []byte
			if err := websocket.Message.Receive(ws, &msg); err != nil {
				serverSaw <- err
				return
			}
			if string(msg) == "bye" {
				serverSaw <- nil
				return // closes
			}
			_ = websocket.Message.Send(ws, bytes.ToUpper(msg))
		}
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	f := startFront(t, "http://"+ln.Addr().String())

	for _, clientLeaves := range []bool{false, true} {
		config, err := websocket.NewConfig("ws://"+f.addr+"/socket", "http://"+f.addr)
		if err != nil {
			t.Fatal(err)
		}
		config.Protocol = []string{"chat"}
		ws, err := websocket.NewClient(config, dial(t, f.addr))
		if err != nil {
			t.Fatal(err)
		}
		if got := receive(t, ws); got != "hello" {
			t.Errorf("the server's first message: %q", got)
		}
		big := strings.Repeat("both ways ", 200_000) // 2 MB, more than the sockets between hold
		sent := make(chan error, 1)
		go func() {
			sent <- errors.Join(websocket.Message.Send(ws, "small"), websocket.Message.Send(ws, []byte(big)), websocket.Message.Send(ws, ""))
		}()
		for _, want := range []string{"SMALL", strings.ToUpper(big), ""} {
			if got := receive(t, ws); got != want {
				t.Errorf("received %s, want %s", short(got), short(want))
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if clientLeaves {
			_ = ws.Close()
			if err := <-serverSaw; !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("the server saw %v", err)
			}
		} else {
			_ = websocket.Message.Send(ws, "bye")
			if err := <-serverSaw; err != nil {
				t.Errorf("the server saw %v", err)
			}
			var rest []byte
			if err := websocket.Message.Receive(ws, &rest); !errors.Is(err, io.EOF) {
				t.Errorf("the client saw %q, %v", rest, err)
			}
			_ = ws.Close()
		}
	}
	for _, rec := range f.rows.awaitN(t, 2) {
		if rec.Outcome != meter.OK || rec.Status != meter.Some(101) || rec.RequestBytes.V < 2_000_000 || rec.ResponseBytes.V < 2_000_000 {
			t.Errorf("row: %s %+v, %+v bytes there, %+v back", rec.Outcome, rec.Status, rec.RequestBytes, rec.ResponseBytes)
		}
	}
}

// TestTunnelReset: a client that resets its connection is gone in both directions, so that a
// silent upstream does not hold the tunnel open for as long as it may be silent.
func TestTunnelReset(t *testing.T) {
	over := make(chan struct{})
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello")
			<-over // says nothing more and does not close
		}
	})
	defer close(over)
	f := startFront(t, url)
	nc := dial(t, f.addr)
	send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: reset\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	untilMarker(t, nc, "hello")
	_ = nc.SetLinger(0)
	_ = nc.Close()
	if rec := f.rows.row(t, "reset"); rec.Outcome != meter.Cancelled {
		t.Errorf("row: %s %q", rec.Outcome, rec.Error)
	}
}

func receive(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	var msg []byte
	if err := websocket.Message.Receive(ws, &msg); err != nil {
		t.Fatalf("receive: %v", err)
	}
	return string(msg)
}
