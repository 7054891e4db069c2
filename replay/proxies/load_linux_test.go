package proxies

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// upstream is a running Upstream.
func upstream(t *testing.T) *Upstream {
	t.Helper()
	u, err := NewUpstream(freePort)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return u
}

func drive(t *testing.T, addr string, l load) *tally {
	t.Helper()
	to, err := loopback(addr)
	if err != nil {
		t.Fatal(err)
	}
	l.to, l.host, l.onWindow = to, addr, func(int64, int64) {}
	got, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var streams = load{streams: 20, gap: 5e6, ramp: 10e6, settle: 10e6, window: 100e6, quick: 2}
var shorts = load{streams: 4, short: true, ramp: 1e6, window: 50e6}

// TestLoad: over real sockets every stream and every short request ends well. How many events fall into the window
// depends on the machine; TestLoadWindow counts them in exact time.
func TestLoad(t *testing.T) {
	u := upstream(t)
	got := drive(t, u.Addr(), streams)
	if got.failures != 0 || got.requests != streams.streams || len(got.ttft) != streams.streams || got.events < streams.streams*(2+streams.quick) {
		t.Errorf("%d streams, %d events, %d first events, %d failed: %v", got.requests, got.events, len(got.ttft), got.failures, got.why)
	}
	for _, ns := range append(got.latency, got.ttft...) {
		if ns <= 0 || ns > int64(time.Minute) {
			t.Fatalf("an event took %d ns", ns)
		}
	}
	if got = drive(t, u.Addr(), shorts); got.failures != 0 || got.requests < shorts.streams || len(got.rtt) > got.requests {
		t.Errorf("%d short requests, %d of them in the window, %d failed: %v", got.requests, len(got.rtt), got.failures, got.why)
	}
}

// TestLoadWindow: an event counts where it is read within [from, end), with the time since its write; the first event's
// time leaves out how long the schedule withheld it; a short request must also begin within the window.
func TestLoadWindow(t *testing.T) {
	const from, end = 1000, 2000
	stream := &loader{from: from, end: end}
	c := &client{fd: -1, started: 200, plan: schedule{first: 300, n: 4}}
	read := []int64{900, from, end - 1, end}
	for i, now := range read {
		event, at := bytes.Clone(tokenEvent), stampAt
		if i == 0 {
			event, at = bytes.Clone(firstEvent), stampAt+len(firstEvent)-len(tokenEvent)
			stream.streamBytes(c, []byte(streamHead), now)
		}
		putDigits(event[at:][:stampDigits], now-int64(10*(i+1)))
		putDigits(event[at+stampDigits+1:][:seqDigits], int64(i+1))
		stream.streamBytes(c, event, now)
	}
	stream.streamBytes(c, streamEnd(c.plan), end)
	got := stream.tally
	if !slices.Equal(got.latency, []int64{20, 30}) || !slices.Equal(got.ttft, []int64{900 - 200 - 300}) || got.events != 4 || got.requests != 1 || got.failures != 0 {
		t.Errorf("read at %v: %+v", read, got)
	}
	for _, x := range []struct {
		started, now int64
		want         []int64
	}{{from - 1, from + 5, nil}, {from, from + 7, []int64{7}}, {end - 9, end - 1, []int64{8}}, {end - 9, end, nil}} {
		short := &loader{load: load{short: true}, from: from, end: end}
		c := &client{fd: -1, started: x.started}
		short.shortBytes(c, shortReply, x.now)
		if !slices.Equal(short.tally.rtt, x.want) || short.tally.requests != 1 {
			t.Errorf("a request from %d to %d: %+v, want %v", x.started, x.now, short.tally, x.want)
		}
	}
}

// spoil is a relay that passes replies through a change.
func spoil(t *testing.T, upstream string, change func([]byte) []byte) string {
	t.Helper()
	ln, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				c.Close()
				return
			}
			go func() { io.Copy(up, c); up.Close() }()
			go func() {
				defer c.Close()
				defer up.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := up.Read(buf)
					if n > 0 {
						c.Write(change(bytes.Clone(buf[:n])))
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestLoadNoticesDamage: an event that a proxy loses, repeats, changes or cuts is a failure.
func TestLoadNoticesDamage(t *testing.T) {
	u := upstream(t)
	for name, c := range map[string]struct {
		load   load
		change func([]byte) []byte
	}{
		"an event lost": {streams, func(p []byte) []byte {
			if bytes.Contains(p, []byte(".000003\"")) {
				return nil
			}
			return p
		}},
		"an event twice": {streams, func(p []byte) []byte {
			if bytes.Contains(p, []byte(".000003\"")) {
				return append(p, p...)
			}
			return p
		}},
		"the end missing": {streams, func(p []byte) []byte { return bytes.Replace(p, []byte("[DONE]"), []byte("[GONE]"), 1) }},
		"an error status": {streams, func(p []byte) []byte { return bytes.Replace(p, []byte("200 OK"), []byte("502 No"), 1) }},
		"another body":    {shorts, func(p []byte) []byte { return bytes.Replace(p, []byte("every byte"), []byte("every bite"), 1) }},
		"a shorter length": {shorts, func(p []byte) []byte {
			return bytes.Replace(p, []byte("Content-Length: "), []byte("Content-Length: 1"), 1)
		}},
	} {
		if got := drive(t, spoil(t, u.Addr(), c.change), c.load); got.failures == 0 {
			t.Errorf("%s: nothing is noticed", name)
		}
	}
}

func TestDechunkerAtAnySplit(t *testing.T) {
	whole := string(chunk("one")) + string(chunk(strings.Repeat("x", 300))) + "0\r\n\r\n"
	want := "one" + strings.Repeat("x", 300)
	for step := 1; step <= len(whole); step++ {
		var c dechunker
		var got []byte
		for at := 0; at < len(whole); at += step {
			p := []byte(whole[at:min(at+step, len(whole))])
			for len(p) > 0 {
				n, data, err := c.next(p)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, data...)
				p = p[n:]
			}
		}
		if string(got) != want || !c.done {
			t.Fatalf("pieces of %d: %d bytes, done %v", step, len(got), c.done)
		}
	}
}

// TestParsePeers: what names a proxy that the user has started, and what does not.
func TestParsePeers(t *testing.T) {
	got, err := ParsePeers([]string{"a=http://127.0.0.1:8080", "b=http://localhost/olla/openai/"})
	if want := []Peer{{"a", "127.0.0.1:8080", ""}, {"b", "localhost:80", "/olla/openai"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]string{{"http://127.0.0.1:1"}, {"=http://127.0.0.1:1"}, {"a=https://127.0.0.1:1"}, {"a=127.0.0.1:1"}, {"a=http://"}, {"a=http://h?x"},
		{"wattline=http://127.0.0.1:1"}, {"a=http://h:1", "b=http://h:2", "a=http://h:3"}} {
		if got, err := ParsePeers(bad); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
	far := Peer{Name: "far", Addr: "192.0.2.1:80"}
	if _, err := far.process(); err == nil || !strings.Contains(err.Error(), "not on this machine") {
		t.Errorf("%v", err)
	}
}

// TestRequestsOfProxies: requests that a proxy has re-framed or sent below another path are read as they were meant.
func TestRequestsOfProxies(t *testing.T) {
	plan := schedule{first: 5e6, gap: 20e6, quick: 2, n: 70}
	whole := streamRequest("h:1", "/api", plan)
	if !bytes.HasPrefix(whole, []byte("POST /api/v1/chat/completions HTTP/1.1\r\n")) {
		t.Errorf("%q", whole)
	}
	head, body, _ := bytes.Cut(whole, []byte("\r\n\r\n"))
	line, _, _ := bytes.Cut(head, []byte("Content-Length"))
	chunked := append(append(bytes.Clone(line), "Transfer-Encoding: chunked\r\n\r\n"...), chunk(string(body))...)
	chunked = append(chunked, lastChunk...)
	for name, p := range map[string][]byte{"with a length": whole, "chunked": chunked} {
		for n := range len(p) {
			if _, _, _, ok := wholeRequest(p[:n]); ok {
				t.Fatalf("%s: %d of %d bytes are taken for all", name, n, len(p))
			}
		}
		size, _, got, ok := wholeRequest(append(bytes.Clone(p), "POST "...))
		if !ok || size != len(p) || got != plan {
			t.Errorf("%s: %d of %d bytes, %+v, %v", name, size, len(p), got, ok)
		}
	}
	if _, reply, got, ok := wholeRequest([]byte("GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")); !ok || got.n != 0 || !bytes.Contains(reply, []byte(`"id":"bench.gguf"`)) {
		t.Errorf("models: %q", reply)
	}
	if _, reply, got, ok := wholeRequest(shortRequest("h:1", "")); !ok || got.n != 0 || !bytes.Equal(reply, shortReply) {
		t.Errorf("short: %q", reply)
	}
}

// TestProcessUsage: CPU time and memory of a process and its children are counted.
func TestProcessUsage(t *testing.T) {
	p, err := start(t.Context(), nil, "sh", "-c", "sh -c 'while :; do :; done'; true")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	deadline := time.After(2 * time.Minute)
	for {
		u, err := p.usage()
		if err == nil && u.cpu > 50*time.Millisecond && u.rss > 100<<10 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("a child that spins shows %+v: %v", u, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestUsageOfAnEndedChild: the CPU time of a child that ended between two readings is not lost.
func TestUsageOfAnEndedChild(t *testing.T) {
	p := &process{roots: []int{os.Getpid()}}
	busy := exec.Command("sh", "-c", "read start; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read end")
	in, err1 := busy.StdinPipe()
	out, err2 := busy.StdoutPipe()
	if err := errors.Join(err1, err2, busy.Start()); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "\n")
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it has worked, and lives
		t.Fatal(err)
	}
	alive, err := p.usage()
	if err != nil {
		t.Fatal(err)
	}
	child, err := cpuTime(busy.Process.Pid)
	if err != nil || child < 20*time.Millisecond {
		t.Fatal(child, err)
	}
	_ = in.Close()
	_ = busy.Wait()
	ended, err := p.usage()
	if lost := alive.cpu - ended.cpu; err != nil || lost > 20*time.Millisecond { // its two counts are in hundredths of a second
		t.Errorf("%s of the child's %s are lost, %v", lost, child, err)
	}
}
