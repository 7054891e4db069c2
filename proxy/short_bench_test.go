package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkShort is a short, unstreamed POST through real sockets: on a kept connection, with the body in a segment of its
// own, and on a connection that closes behind the reply.
func BenchmarkShort(b *testing.B) {
	url := rawUpstream(b, func(nc *net.TCPConn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	f := startFront(b, url, func(c *Config) { c.Observer = nil })
	whole := postOf("/tokenize", "x", `{"content":"x"}`)
	head, body, _ := strings.Cut(whole, "\r\n\r\n")
	const reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	got := make([]byte, len(reply))
	for name, parts := range map[string][]string{"kept": {whole}, "two-segments": {head + "\r\n\r\n", body}} {
		b.Run(name, func(b *testing.B) {
			nc := dial(b, f.addr)
			for b.Loop() {
				for _, p := range parts {
					send(b, nc, p)
				}
				if _, err := io.ReadFull(nc, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("closing", func(b *testing.B) {
		closing := strings.Replace(whole, "\r\n", "\r\nConnection: close\r\n", 1)
		for b.Loop() {
			nc, err := net.Dial("tcp", f.addr)
			if err != nil {
				b.Fatal(err)
			}
			send(b, nc, closing)
			if _, err := io.ReadAll(nc); err != nil {
				b.Fatal(err)
			}
			_ = nc.Close()
		}
	})
}
