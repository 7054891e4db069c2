package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSoakCompressedCost: a reply of 40 kB, compressed with gzip, comes through wattline as soon when it is inflated for the
// meter as when its coding is not known: medians of requests that take turns. Client and upstream are another process, the
// client pauses as clients do, and the CPU time of this process is logged.
func TestSoakCompressedCost(t *testing.T) {
	if os.Getenv(compressedClientEnv) != "" {
		compressedClient(t)
		return
	}
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	const n = 2000
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSoakCompressedCost$")
	cmd.Env = append(os.Environ(), compressedClientEnv+"="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the client said nothing")
	}
	url := "http://" + lines.Text()
	f := startFront(t, url)
	began := cpuUsed()
	_, _ = fmt.Fprintln(in, f.addr)
	if !lines.Scan() {
		t.Fatal("the client measured nothing")
	}
	var plain, inflated float64
	if _, err := fmt.Sscan(lines.Text(), &plain, &inflated); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("p50 %.1f us not inflated, %.1f us inflated; CPU %.1f us a pair of exchanges", plain, inflated, float64((cpuUsed()-began).Microseconds())/float64(n))
	if inflated > 1.15*plain+20 {
		t.Errorf("inflating for the meter delays a reply: p50 %.1f us instead of %.1f", inflated, plain)
	}
	read := 0
	for _, rec := range f.rows.awaitN(t, 2*n) {
		if rec.PromptTokens.V == 12 && rec.Error == "" {
			read++
		}
	}
	if read != n {
		t.Errorf("%d of %d replies were read", read, n)
	}
}

const compressedClientEnv = "WATTLINE_TEST_COMPRESSED_CLIENT"

func cpuUsed() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// compressedClient is the other process: it prints its upstream's address, reads the proxy's, and prints the median
// of each kind of reply in microseconds.
func compressedClient(t *testing.T) {
	var doc strings.Builder
	doc.WriteString(`{"model":"served","choices":[{"index":0,"finish_reason":"stop","message":{"content":"`)
	for i := 0; doc.Len() < 40_000; i++ {
		fmt.Fprintf(&doc, "word %x and some other words ", i*i*2654435761)
	}
	doc.WriteString(`"}}],"usage":{"prompt_tokens":12,"completion_tokens":3}}`)
	body := compressed("gzip", doc.String())
	var replies [2][]byte
	for i, coding := range []string{"nope", "gzip"} {
		replies[i] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", coding, len(body), body)
	}
	ln := listen(t)
	defer ln.Close()
	go func() { // ends with ln
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go answerAll(nc, replies) // ends with nc
		}
	}()
	fmt.Println(ln.Addr())
	var addr string
	if _, err := fmt.Scanln(&addr); err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(os.Getenv(compressedClientEnv))
	requests := [2]string{postOf("/v1/chat/completions?0", "cost", askedBody), postOf("/v1/chat/completions?1", "cost", askedBody)}
	var took [2][]time.Duration
	nc := dial(t, addr)
	got := make([]byte, len(replies[0]))
	pause := time.NewTicker(4 * time.Millisecond)
	defer pause.Stop()
	order := make([]int, 0, 2*n) // shuffled: a kind that always follows the other finds other caches
	for i := range 2 * n {
		order = append(order, i%2)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, i := range order {
		<-pause.C
		began := time.Now()
		send(t, nc, requests[i])
		if _, err := io.ReadFull(nc, got); err != nil || !bytes.HasSuffix(got, body[len(body)-8:]) {
			t.Fatal(err)
		}
		took[i] = append(took[i], time.Since(began))
	}
	us := func(d []time.Duration) float64 { return float64(median(d).Nanoseconds()) / 1e3 }
	fmt.Println(us(took[0]), us(took[1]))
}

// answerAll answers with the reply whose number ends the request's target.
func answerAll(nc net.Conn, replies [2][]byte) {
	defer nc.Close() //nolint:errcheck // the client has gone
	br := bufio.NewReader(nc)
	for {
		which := 0
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, "?1 ") {
				which = 1
			}
			if line == "\r\n" {
				break
			}
		}
		if _, err := br.Discard(len(askedBody)); err != nil {
			return
		}
		if _, err := nc.Write(replies[which]); err != nil {
			return
		}
	}
}
