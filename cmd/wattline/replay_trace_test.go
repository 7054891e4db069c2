package main

import (
	"bytes"
	"compress/gzip"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wattline/proxy/stub"
)

// TestReplayTrace: a trace is sent twice and the runs are compared; what cannot be sent is refused with one sentence, and
// no request is sent.
func TestReplayTrace(t *testing.T) {
	srv := stub.New(stub.Config{HeaderDelay: -1, FirstToken: 2 * time.Millisecond, TokenGap: time.Millisecond, PingInterval: -1, Context: 3000})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	defer srv.Close()
	var sent atomic.Int32
	url := tapped(t, "http://"+ln.Addr().String(), func(r *http.Request, _ []byte) {
		if r.URL.Path == "/completion" {
			sent.Add(1)
		}
	})
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.jsonl", `{"timestamp": 1000, "input_length": 700, "output_length": 6, "hash_ids": [1, 2]}
{"timestamp": 1400, "input_length": 1300, "output_length": 0, "hash_ids": [1, 3, 4]}
{"timestamp": 1400, "input_length": 1300, "output_length": 9, "hash_ids": [1, 3, 4]}
{"timestamp": 2000, "input_length": 5000, "output_length": 9, "hash_ids": [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]}
`)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, out := range []string{a, b} {
		got := wattline(t, "replay", "--endpoint", url, "--trace", good, "--speed", "4x", "--fit-context", "clip", "--out", out)
		if got.code != exitOK && !strings.Contains(got.stdout, "fell behind its schedule") { // a busy machine may
			t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
		}
		for _, want := range []string{"3 of 3 records of good.jsonl (mooncake, relative clock (ms) from 1000;", "at 4x, recorded replies",
			"1 record without a reply (0 tokens) (line 2)", "CLIPPED: 1 record needs more than the context of 3000 tokens"} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("no %q in\n%s", want, got.stdout)
			}
		}
	}
	if got := wattline(t, "compare", a, b); got.code != exitOK && got.code != exitInvalid || strings.Contains(got.stderr, "different workloads") {
		t.Errorf("compare: exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	line := func(at, in string) string {
		return `{"timestamp": ` + at + `, "input_length": ` + in + `, "output_length": 5}` + "\n"
	}
	for i := range 3000 {
		if _, err := z.Write([]byte(line(strconv.Itoa(i*i), strconv.Itoa(1+i*i%97)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	sent.Store(0)
	for _, c := range []struct {
		says string
		args []string
	}{
		{"the gzip file is cut off", []string{"--trace", file("cut.gz", packed.String()[:packed.Len()/2])}},
		{"no column GeneratedTokens", []string{"--trace", file("columns.csv", "TIMESTAMP,ContextTokens\n2023-11-16 18:17:03,1\n")}},
		{"1 record needs more than the server's context of 3000 tokens a slot (line 4: 5000 tokens in and 9 out): give --fit-context drop or clip", []string{"--trace", good}},
		{"line 2 has a negative length", []string{"--trace", file("negative.jsonl", line("0", "5")+line("1", "-5"))}},
		{"mixes two clocks", []string{"--trace", file("clocks.jsonl", line("0", "5")+line("1700000000000", "5"))}},
		{"it is no trace of a known format", []string{"--trace", file("page.md", "# A page\n")}},
		{"--speed fast is no speed", []string{"--trace", good, "--speed", "fast"}},
		{"lies in --window", []string{"--trace", good, "--window", "1h..2h"}},
		{"give --trace FILE", []string{"--speed", "2x"}},
		{"a trace has its own requests, lengths and times", []string{"--trace", good, "--rate", "5"}},
		{"leave out --workload, --full, --stress, --dataset and --requests", []string{"--trace", good, "--full"}},
		{"a trace has its own times: give --sweep concurrency=1,2,4", []string{"--trace", good, "--sweep", "rate=auto", "--goodput", "ttft:500"}},
		{"--cache and --length", []string{"--trace", good, "--fit-context", "drop", "--cache", "cold"}},
	} {
		got := wattline(t, append([]string{"replay", "--endpoint", url}, c.args...)...)
		lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
		if got.code != exitUsage || got.stdout != "" || !strings.Contains(lines[len(lines)-1], c.says) || strings.Contains(got.stderr, "goroutine") {
			t.Errorf("%v: exit %d, want %q\n%s\n%s", c.args, got.code, c.says, got.stdout, got.stderr)
		}
	}
	if n := sent.Load(); n != 0 {
		t.Errorf("%d requests were sent all the same", n)
	}
}
