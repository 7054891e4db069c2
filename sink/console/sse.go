package console

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// slowPage is how long one write to a page may take before its connection is closed.
const slowPage = 20 * time.Second

// stream answers /api/live: server-sent events until the page leaves. The connection is taken over, because fasthttp's
// timeouts and its limit of connections are for short answers.
func (s *Server) stream(ctx *fasthttp.RequestCtx) {
	if s.cfg.Live == nil {
		fail(ctx, errRowsOnly.status, errRowsOnly.text)
		return
	}
	if _, err := parseParams(ctx); err != nil {
		fail(ctx, fasthttp.StatusBadRequest, err.Error())
		return
	}
	h := &ctx.Response.Header
	h.SetContentType("text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if ctx.IsHead() {
		return
	}
	if s.cfg.Live.open.Load() >= maxPages {
		fail(ctx, fasthttp.StatusServiceUnavailable, fmt.Sprintf("%d live pages are open already: close one, or reload later", maxPages))
		return
	}
	// With neither a length nor chunks the answer ends with the connection.
	head := "HTTP/1.1 200 OK\r\nConnection: close\r\n"
	h.VisitAll(func(k, v []byte) { //nolint:staticcheck // the headers that admit has set
		if name := string(k); name != "Content-Length" && name != "Connection" {
			head += name + ": " + string(v) + "\r\n"
		}
	})
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) { s.cfg.Live.serve(c, []byte(head+"\r\n")) })
}

// serve writes a page's events until it leaves, or Live stops.
func (l *Live) serve(c net.Conn, head []byte) {
	p := l.enter()
	if p == nil {
		return
	}
	defer l.leave(p)
	gone := make(chan struct{})
	go func() { // ends with the connection or below
		_, _ = io.Copy(io.Discard, c)
		close(gone)
	}()
	defer func() { // fasthttp uses the reader again
		_ = c.SetReadDeadline(time.Unix(1, 0))
		<-gone
	}()
	write := func(b []byte) bool {
		_ = c.SetWriteDeadline(time.Now().Add(slowPage))
		_, err := c.Write(b)
		return err == nil
	}
	if !write(head) {
		return
	}
	for {
		select {
		case <-gone:
			return
		case chunk, ok := <-p.chunks:
			if !ok || !write(chunk) {
				return
			}
		}
		if p.lost.Load() > 0 && !write(l.again(p)) {
			return
		}
	}
}
