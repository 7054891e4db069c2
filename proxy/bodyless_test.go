package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"wattline/meter"
)

// TestReplyWithoutBody: the server frames replies that have no body in chunks, and sends the last chunk in a segment of
// its own. The client sees no framing, so it waits for nothing, and its next request on the connection is answered.
func TestReplyWithoutBody(t *testing.T) {
	const te = "Transfer-Encoding: chunked\r\n"
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			last := "0\r\n\r\n"
			switch path := req.URL.Path; {
			case path == "/204":
				_, _ = io.WriteString(nc, "HTTP/1.1 204 No Content\r\nX-A: b\r\n"+te+"\r\n")
			case path == "/204-sized":
				_, _ = io.WriteString(nc, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
				last = "hello"
			case path == "/304":
				_, _ = io.WriteString(nc, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n"+te+"\r\n")
			case path == "/103":
				_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"+te+"\r\nHTTP/1.1 204 No Content\r\n"+te+"\r\n")
			case req.Method == "HEAD":
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\n"+te+"\r\n")
			case req.Method == "CONNECT":
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\n"+te+"\r\n")
				line, _ := br.ReadString('\n')
				_, _ = io.WriteString(nc, strings.ToUpper(line))
				return
			default:
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				continue
			}
			_, _ = io.WriteString(nc, last)
		}
	})
	f := startFront(t, url)
	for _, c := range []struct{ method, path, want string }{
		{"DELETE", "/204", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"},
		{"GET", "/204-sized", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"GET", "/304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"},
		{"GET", "/103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"},
		{"HEAD", "/head", "HTTP/1.1 200 OK\r\n\r\n"},
	} {
		nc := dial(t, f.addr)
		for range 3 {
			send(t, nc, c.method+" "+c.path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			got := make([]byte, len(c.want))
			if _, err := io.ReadFull(nc, got); err != nil || string(got) != c.want {
				t.Fatalf("%s %s: %q, %v", c.method, c.path, got, err)
			}
			send(t, nc, "POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			if resp, body := readReply(t, bufio.NewReader(nc), "POST"); resp.StatusCode != 200 || body != "ok" {
				t.Errorf("behind %s %s: %s %q", c.method, c.path, resp.Status, body)
			}
		}
	}
	nc := dial(t, f.addr)
	send(t, nc, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nX-Request-Id: connect\r\n\r\n")
	br := bufio.NewReader(nc)
	if resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil || resp.StatusCode != 200 || resp.TransferEncoding != nil {
		t.Fatalf("CONNECT: %+v, %v", resp, err)
	}
	send(t, nc, "tunnel\n")
	if got, err := io.ReadAll(br); string(got) != "TUNNEL\n" || err != nil {
		t.Errorf("through the tunnel: %q, %v", got, err)
	}
	_ = nc.Close()
	if rec := f.rows.row(t, "connect"); rec.Status != meter.Some(200) || rec.Outcome != meter.OK {
		t.Errorf("row: %s, %+v", rec.Outcome, rec.Status)
	}
}

// TestLongPath: the server gets a path of 60,000 bytes whole; rows have its beginning and its length.
func TestLongPath(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	long := "/echo" + strings.Repeat("/\u00fc", 20000)
	nc := dial(t, f.addr)
	send(t, nc, "GET "+long+"?q HTTP/1.1\r\nHost: x\r\nX-Request-Id: long\r\n\r\n")
	readReply(t, bufio.NewReader(nc), "GET")
	if got := up.received(); !strings.HasPrefix(got, "GET "+long+"?q HTTP/1.1\r\n") {
		t.Errorf("the server received %s", short(got))
	}
	nc = dial(t, f.addr)
	send(t, nc, strings.Repeat("M", 100)+" "+long+" HTTP/1.1\r\nHost: x\r\nHost: x\r\nX-Request-Id: refused\r\n\r\n")
	readReply(t, bufio.NewReader(nc), "GET")
	for _, id := range []string{"long", "refused"} {
		rec := f.rows.row(t, id)
		if len(rec.Path) > keptPath || len(rec.Path) < keptPath-3 || !strings.HasPrefix(long, rec.Path) || !strings.HasSuffix(rec.Path, "/") && !strings.HasSuffix(rec.Path, "\u00fc") {
			t.Errorf("%s: %d bytes of path: %q", id, len(rec.Path), rec.Path)
		}
		if rec.Details == nil || rec.Details.PathBytes != meter.Some(int64(len(long))) || len(rec.Method) > keptMethod {
			t.Errorf("%s: details %+v, method %q", id, rec.Details, rec.Method)
		}
	}
	nc = dial(t, f.addr)
	send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\nX-Request-Id: short\r\n\r\n")
	readReply(t, bufio.NewReader(nc), "GET")
	if rec := f.rows.row(t, "short"); rec.Path != "/echo" || rec.Details != nil && rec.Details.PathBytes.Valid {
		t.Errorf("row: %q, %+v", rec.Path, rec.Details)
	}
}
