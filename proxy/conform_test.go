package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted is an upstream that keeps every byte it receives and answers by path, with raw bytes. Its
// parser is its own and as plain as can be, so that it does not share a mistake with the proxy.
type scripted struct {
	ln net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex // guards what follows
	got      bytes.Buffer
	conns    map[net.Conn]bool
	accepted int
}

func startScripted(t testing.TB, ln net.Listener) *scripted {
	t.Helper()
	s := &scripted{ln: ln, conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[nc] = true
			s.accepted++
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(nc) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.mu.Lock()
		for nc := range s.conns {
			_ = nc.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *scripted) url() string { return "http://" + s.ln.Addr().String() }

// Write notes received bytes.
func (s *scripted) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// received takes what has been received so far.
func (s *scripted) received() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.got.String()
	s.got.Reset()
	return out
}

// open is the number of connections.
func (s *scripted) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// plainRequest holds what the scripted upstream reads from a request.
type plainRequest struct {
	nc                    net.Conn
	br                    *bufio.Reader
	method, path, version string
	head                  string
	body                  []byte
	trailers              string
}

func (s *scripted) serve(nc net.Conn) {
	defer func() {
		_ = nc.Close()
		s.mu.Lock()
		delete(s.conns, nc)
		s.mu.Unlock()
	}()
	r := &plainRequest{nc: nc, br: bufio.NewReader(io.TeeReader(nc, s))}
	for r.readHead() {
		if answer, ok := early[r.path]; ok {
			if !answer(r) {
				return
			}
			continue
		}
		if strings.Contains(strings.ToLower(r.head), "expect: 100-continue") {
			r.write("HTTP/1.1 100 Continue\r\n\r\n")
		}
		if !r.readBody() || !r.answer() {
			return
		}
	}
}

func (r *plainRequest) write(msg string) { _, _ = io.WriteString(r.nc, msg) }

func (r *plainRequest) readHead() bool {
	r.head, r.body, r.trailers = "", nil, ""
	for {
		line, err := r.br.ReadString('\n')
		if err != nil {
			return false
		}
		r.head += line
		if line == "\r\n" {
			break
		}
	}
	first, _, _ := strings.Cut(r.head, "\r\n")
	parts := strings.Split(first, " ")
	if len(parts) != 3 {
		return false
	}
	r.method, r.path, r.version = parts[0], parts[1], parts[2]
	return true
}

func (r *plainRequest) field(name string) string {
	for _, line := range strings.Split(r.head, "\r\n")[1:] {
		k, v, _ := strings.Cut(line, ":")
		if strings.EqualFold(k, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (r *plainRequest) readBody() bool {
	if n, err := strconv.Atoi(r.field("content-length")); err == nil {
		r.body = make([]byte, n)
		_, err := io.ReadFull(r.br, r.body)
		return err == nil
	}
	if r.field("transfer-encoding") == "" {
		return true
	}
	for {
		line, err := r.br.ReadString('\n')
		size, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ";")
		n, perr := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil || perr != nil {
			return false
		}
		if n == 0 {
			break
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r.br, data); err != nil {
			return false
		}
		r.body = append(r.body, data[:n]...)
	}
	for {
		line, err := r.br.ReadString('\n')
		if err != nil {
			return false
		}
		if line == "\r\n" {
			return true
		}
		r.trailers += line
	}
}

// early are the answers that come before the body has been read; they report whether the connection
// goes on.
//
//nolint:gochecknoglobals // a constant table
var early = map[string]func(r *plainRequest) bool{
	"/early-413": func(r *plainRequest) bool {
		r.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large")
		_, _ = io.Copy(io.Discard, r.br) // as a careful server lingers
		return false
	},
	"/early-401": func(r *plainRequest) bool {
		r.write("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno")
		return r.field("expect") != "" && !strings.EqualFold(r.field("connection"), "close") // the body was not sent
	},
	"/early-401-lingers": func(r *plainRequest) bool {
		r.write("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, r.br)
		return false
	},
	"llama:8080": func(r *plainRequest) bool { // CONNECT, which no server of models takes
		r.write("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, POST\r\nContent-Length: 3\r\n\r\nno\n")
		return true
	},
	"/upgrade": func(r *plainRequest) bool {
		r.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
		for {
			line, err := r.br.ReadString('\n')
			r.write(strings.ToUpper(line))
			if err != nil {
				if tcp, ok := r.nc.(*net.TCPConn); ok {
					r.write("GOODBYE\n")
					_ = tcp.CloseWrite()
				}
				return false
			}
		}
	},
}

// answer replies when the request is complete; it reports whether the connection goes on.
func (r *plainRequest) answer() bool {
	keep := r.version == "HTTP/1.1" && !strings.EqualFold(r.field("connection"), "close")
	sized := func(status, fields, body string) bool {
		if r.method == "HEAD" {
			body = ""
			fields += "Content-Length: 1234\r\n"
		} else {
			fields += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		r.write("HTTP/1.1 " + status + "\r\n" + fields + "\r\n" + body)
		return keep
	}
	path, _, _ := strings.Cut(r.path, "?")
	if r.method == "HEAD" && (path == "/chunked" || path == "/trailers" || path == "/empty-chunked") {
		r.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		return keep
	}
	switch path {
	case "/chunked":
		r.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n")
		r.write("5\r\ndata:\r\n")
		r.write("1;why=not\r\n \r\n")
		r.write("00003\r\n\r\n\r\r\n")
		r.write("0\r\n")
		r.write("\r\n")
		return keep
	case "/trailers":
		r.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 42\r\nx-other: a: b\r\n\r\n")
		return keep
	case "/until-close":
		r.write("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nas long as it takes\n")
		return false
	case "/gzip":
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = io.WriteString(w, strings.Repeat("squeeze ", 1000))
		_ = w.Close()
		return sized("200 OK", "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n", z.String())
	case "/range":
		return sized("206 Partial Content", "Content-Range: bytes 2-5/10\r\nAccept-Ranges: bytes\r\n", "cdef")
	case "/odd":
		return sized("299 Fine, by me", "x-LOWER-upper: a\r\nEmpty:\r\nEmpty-2: \r\nSpaces:   two  inside   \r\nTab:\ta\r\n"+
			"Set-Cookie: a=1\r\nOther: between\r\nSet-Cookie: b=2\r\nset-cookie: c=3\r\nObs: caf\xe9\r\n", "odd")
	case "/no-reason":
		return sized("200 ", "", "x")
	case "/hints":
		r.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n")
		return sized("200 OK", "", "hinted")
	case "/204":
		r.write("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")
		return keep
	case "/304":
		r.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n")
		return keep
	case "/empty-chunked":
		r.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
		return keep
	case "/closing":
		r.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbye")
		return false
	case "/bulk":
		return sized("200 OK", "", strings.Repeat("0123456789abcdef", 1<<17))
	case "/big-head":
		return sized("200 OK", "X-Big: "+strings.Repeat("b", 60000)+"\r\n", "big")
	case "/cors":
		return sized("200 OK", "Access-Control-Allow-Origin: "+r.field("origin")+"\r\nAccess-Control-Allow-Methods: GET, POST, DELETE, OPTIONS\r\nAccess-Control-Allow-Headers: *\r\n", "")
	case "/listed":
		return sized("200 OK", "Connection: X-Hop, keep-alive\r\nX-Stay: 1\r\n", "listed")
	}
	return sized("200 OK", "X-Trailers: "+strings.ReplaceAll(r.trailers, "\r\n", "|")+"\r\n", r.method+" "+string(r.body))
}

// conformance is one exchange of bytes: what the client says, and how it knows that it has heard all.
type conformance struct {
	name    string
	say     []string // written one after the other
	replies []string // the methods with replies still to come
	waits   []string // before say[i] is written, this has to have been received ("" for nothing)
	ends    bool     // the server closes behind the last reply
	early   bool     // the reply comes while the upload runs: how much of that the server still sees is open
	tail    string   // what comes behind the last reply (Upgrade)
	tested  func(t *testing.T, got string)
}

// TestConformance sends the same bytes direct and through wattline and compares what each side received:
// every byte, hop-by-hop lines apart.
func TestConformance(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	for _, c := range conformances() {
		t.Run(c.name, func(t *testing.T) {
			up, f := up, f
			if c.early { // with connections of its own, so that it can be waited for that all have ended
				up = startScripted(t, listen(t))
				f = startFront(t, up.url())
			}
			directClient, directServer := c.run(t, up, up.ln.Addr().String())
			client, server := c.run(t, up, f.addr)
			if d := endToEnd(directClient); d != endToEnd(client) {
				t.Errorf("the client received\n%s\ndirect, and\n%s\nthrough wattline", short(d), short(endToEnd(client)))
			}
			if d := endToEnd(directServer); d != endToEnd(server) && (!c.early || !strings.HasPrefix(c.say[0]+c.say[1], endToEnd(server))) {
				t.Errorf("the server received\n%s\ndirect, and\n%s\nthrough wattline", short(d), short(endToEnd(server)))
			}
			if strings.Contains(strings.ToLower(client+server), "wattline") {
				t.Error("a header of wattline's was added")
			}
			if c.tested != nil {
				c.tested(t, client)
			}
		})
	}
}

// run plays one side and returns what client and server received.
func (c *conformance) run(t *testing.T, up *scripted, addr string) (client, server string) {
	t.Helper()
	up.received()
	nc := dial(t, addr)
	var got bytes.Buffer
	br := bufio.NewReader(io.TeeReader(nc, &got))
	for i, part := range c.say {
		if i < len(c.waits) && c.waits[i] != "" {
			for !strings.Contains(got.String(), c.waits[i]) {
				if _, err := br.Peek(br.Buffered() + 1); err != nil {
					t.Fatalf("wait for %q: %v after %q", c.waits[i], err, got.String())
				}
			}
		}
		send(t, nc, part)
	}
	for _, method := range c.replies {
		for {
			resp, err := http.ReadResponse(br, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("reply to %s: %v after %q", method, err, short(got.String()))
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatalf("body of the reply to %s: %v", method, err)
			}
			if resp.StatusCode >= 200 || resp.StatusCode == 101 {
				break
			}
		}
	}
	if c.tail != "" {
		for !strings.HasSuffix(got.String(), c.tail) {
			if _, err := br.ReadByte(); err != nil {
				t.Fatalf("wait for %q: %v after %q", c.tail, err, got.String())
			}
		}
		_ = nc.CloseWrite()
	}
	if c.early {
		_ = nc.Close()
		eventually(t, func() bool { return up.open() == 0 }, func() string { return "the upstream's connections stay open" })
		return got.String(), up.received()
	}
	if c.ends || c.tail != "" {
		if _, err := io.Copy(io.Discard, br); err != nil {
			t.Fatalf("wait for the close: %v", err)
		}
	} else {
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if b, err := br.Peek(1); !isTimeout(err) {
			t.Errorf("behind the last reply: %q, %v", b, err)
		}
	}
	_ = nc.Close()
	return got.String(), up.received()
}

var hopLines = regexp.MustCompile(`(?i)\r\n(Connection|Keep-Alive|Proxy-Connection|X-Hop|HTTP2-Settings): ?[^\r\n]*`)

// bodylessChunks finds the chunked framing of a reply that has no body: another reply or nothing follows its head.
var bodylessChunks = regexp.MustCompile(`\r\nTransfer-Encoding: chunked(\r\n\r\n(HTTP/|$))`)

// endToEnd takes the hop-by-hop lines out, and framing without a body. No body of these tests has one.
func endToEnd(s string) string {
	return bodylessChunks.ReplaceAllString(hopLines.ReplaceAllString(s, ""), "$1")
}

func short(s string) string {
	if len(s) > 1500 {
		return fmt.Sprintf("%q… (%d bytes)", s[:1500], len(s))
	}
	return fmt.Sprintf("%q", s)
}
