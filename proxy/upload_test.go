package proxy

import (
	"bufio"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/proxy/http1"
	"wattline/proxy/stub"
)

// TestBigUpload: 300 MB, sized and chunked, arrive whole while this process (client and server
// of the test included) grows by less than 50 MB.
func TestBigUpload(t *testing.T) {
	up := startSink(t)
	f := startFront(t, "http://"+up.addr)
	const size = 300 << 20
	block := []byte(strings.Repeat("0123456789abcdef", 4096)) // 64 KiB
	want := crc64.New(crc64.MakeTable(crc64.ECMA))
	for range size / len(block) {
		_, _ = want.Write(block)
	}
	for _, framing := range []string{"Content-Length: " + strconv.Itoa(size), "Transfer-Encoding: chunked"} {
		t.Run(strings.Fields(framing)[0], func(t *testing.T) {
			before := resetPeak(t)
			nc := dial(t, f.addr)
			send(t, nc, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n")
			chunks := strings.HasPrefix(framing, "Transfer")
			for range size / len(block) {
				if chunks {
					send(t, nc, fmt.Sprintf("%x\r\n", len(block)))
				}
				if _, err := nc.Write(block); err != nil {
					t.Fatal(err)
				}
				if chunks {
					send(t, nc, "\r\n")
				}
			}
			if chunks {
				send(t, nc, "0\r\n\r\n")
			}
			_, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
			if body != fmt.Sprintf("%d %x", size, want.Sum64()) {
				t.Errorf("the server received %s", body)
			}
			peak := memory(t, "VmHWM")
			t.Logf("peak %d MB, %d MB above what was before", peak>>20, (peak-before)>>20)
			if grown := peak - before; grown > shadow*50<<20 {
				t.Errorf("grew by %d MB", grown>>20)
			}
		})
	}
	if rec := f.rows.awaitN(t, 2)[0]; rec.RequestBytes != meter.Some(size) || rec.Outcome != meter.OK {
		t.Errorf("row: %+v bytes, %s (%s)", rec.RequestBytes, rec.Outcome, rec.Error)
	}
}

// sink is an upstream that counts and sums what it is sent.
type sink struct{ addr string }

func startSink(t testing.TB) sink {
	t.Helper()
	ln := listen(t)
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := crc64.New(crc64.MakeTable(crc64.ECMA))
		n, _ := io.Copy(sum, r.Body)
		_, _ = fmt.Fprintf(w, "%d %x", n, sum.Sum64())
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return sink{ln.Addr().String()}
}

// resetPeak gives unused memory back, sets the process's peak to what it holds now, and returns that.
func resetPeak(t testing.TB) int64 {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatalf("reset the peak of memory: %v", err)
	}
	return memory(t, "VmHWM")
}

// memory reads a size from the process's status, in bytes.
func memory(t testing.TB, name string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s in the process's status", name)
	return 0
}

// TestEarlyReply: a server that answers while the upload runs is heard, whole, by a client that goes on
// sending for a while.
func TestEarlyReply(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	for _, c := range []struct {
		path, framing, chunk, want string
		status                     int
	}{
		{"/early-413", "Content-Length: 30000000", strings.Repeat("x", 10000), "too large", 413},
		{"/early-413", "Transfer-Encoding: chunked", "2710\r\n" + strings.Repeat("x", 10000) + "\r\n", "too large", 413},
		{"/early-401", "Content-Length: 30000000", strings.Repeat("x", 10000), "no", 401},
		{"/early-401", "Transfer-Encoding: chunked", "", "no", 401}, // not a byte of the body is sent
	} {
		t.Run(c.path+" "+c.framing, func(t *testing.T) {
			nc := dial(t, f.addr)
			send(t, nc, "POST "+c.path+" HTTP/1.1\r\nHost: x\r\n"+c.framing+"\r\n\r\n")
			stopped := make(chan struct{})
			go func() { // until the connection is closed
				defer close(stopped)
				for c.chunk != "" {
					if _, err := io.WriteString(nc, c.chunk); err != nil {
						return
					}
				}
			}()
			resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
			if resp.StatusCode != c.status || body != c.want || !resp.Close {
				t.Errorf("%s %q, close %v", resp.Status, body, resp.Close)
			}
			_ = nc.Close()
			<-stopped
		})
	}
}

// TestRefusedExpectation: a client that waits for 100-continue gets the refusal instead.
func TestRefusedExpectation(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	send(t, nc, "POST /early-401 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	resp, body := readReply(t, br, http.MethodPost)
	if resp.StatusCode != 401 || body != "no" {
		t.Errorf("%s %q", resp.Status, body)
	}
	// Whether the body will still come cannot be known: the connection is closed, as RFC 9110 10.1.1 allows.
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("behind the refusal: %v", err)
	}
	if strings.Contains(up.received(), "100 Continue") {
		t.Error("a 100 was made up")
	}
}

// TestSlowUploadOverhead: the time that a client takes to send its body is not wattline's, exactly.
func TestSlowUploadOverhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dial := bubbleFront(t, stubOn(t, stub.New(stub.Config{FirstToken: 20 * time.Millisecond, TokenGap: time.Millisecond})))
		nc := dial()
		msg := postOf("/v1/chat/completions", "slow", chat(3, ""))
		for _, part := range []string{msg[:len(msg)-40], msg[len(msg)-40 : len(msg)-20], msg[len(msg)-20:]} {
			time.Sleep(30 * time.Millisecond)
			send(t, nc, part)
		}
		readReply(t, bufio.NewReader(nc), http.MethodPost)
		_ = nc.Close()
		rec := f.rows.row(t, "slow")
		if rec.TTFTUs != meter.Some(80_000) || rec.ProxyOverheadUs != meter.Some(0) {
			t.Errorf("ttft %+v, overhead %+v", rec.TTFTUs, rec.ProxyOverheadUs)
		}
	})
}

// steps keeps the steps of one exchange.
type steps struct {
	*rows
	mu  sync.Mutex
	all []Step
}

func (s *steps) Observe(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e.Step)
}

// TestStepsOfEarlyReply: the steps of a reply that begins before its request was sent are told behind that, in their order.
func TestStepsOfEarlyReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dial := bubbleFront(t, func(ln net.Listener) {
			go func() {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				req, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil {
					return
				}
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(nc, "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n")
			}()
			t.Cleanup(func() { _ = ln.Close() })
		})
		seen := &steps{rows: f.rows}
		f.cfg.Observer = seen
		nc := dial()
		body := chat(2, "")
		head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: early\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
		send(t, nc, head+body[:9])
		br := bufio.NewReader(nc)
		for line := ""; !strings.HasPrefix(line, "data: "); {
			var err error
			if line, err = br.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		send(t, nc, body[9:])
		_, _ = io.ReadAll(br)
		f.rows.row(t, "early")
		if want := []Step{RequestArrived, RequestSent, HeadersReceived, OutputReceived, OutputReceived}; !slices.Equal(seen.all, want) {
			t.Errorf("steps %v, want %v", seen.all, want)
		}
	})
}

// TestSizeProbe: of a size line that comes byte by byte each byte is looked at once, and no byte behind it.
func TestSizeProbe(t *testing.T) {
	line := []byte("5;" + strings.Repeat("x", http1.MaxChunkLine-4) + "\r\nbad")
	var p sizeProbe
	for i := range line {
		b := line[:i+1]
		if p.seen > 0 {
			b[p.seen-1] = 0 // which would be refused
		}
		if err := p.look(b); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if !p.SizeKnown() || p.seen != len(line)-3 {
		t.Errorf("looked at %d of %d bytes, known %v", p.seen, len(line), p.SizeKnown())
	}
}
