//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/replay/proxies"
)

// TestBenchProxies runs the whole comparison at a fiftieth of its size, with every load and every installed proxy. It
// checks that there are numbers and no failures, not what the numbers are.
func TestBenchProxies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"bench", "--proxies", "--rounds", "1", "--window", "500ms", "--scale", "0.02", "--out", dir}, &out, &errs)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r proxies.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Sections) != 5 {
		t.Errorf("%d loads", len(r.Sections))
	}
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			ours := strings.HasPrefix(row.Name, proxies.Wattline)
			if s.Idle && row.Name == proxies.Direct {
				continue
			}
			// A stream need not end within the short window.
			if len(row.Rounds) != 1 || row.Rounds[0].Requests+row.Rounds[0].Events == 0 {
				t.Errorf("%s, %s: %d rounds: %v", s.Title, row.Name, len(row.Rounds), row.Rounds)
			}
			if ours && row.Median.Failures > 0 {
				t.Errorf("%s, %s: %v", s.Title, row.Name, row.Median.Why)
			}
			if ours && s.Idle && !(row.Median.Goroutines > 0) {
				t.Errorf("%s, %s: %v goroutines a stream", s.Title, row.Name, row.Median.Goroutines)
			}
		}
	}
	if md := out.String(); !strings.Contains(md, "### Targets") || !strings.Contains(md, "| wattline (metering off) |") {
		t.Errorf("the report is not whole:\n%s", md)
	}
}

// TestBenchCompare measures an upstream with known latency, directly and through a wattline that bench starts.
func TestBenchCompare(t *testing.T) {
	t.Parallel()
	upstream, _ := stubUpstream(t, stub.Config{Slots: 8, FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{
		"bench", "--upstream", upstream, "--rounds", "2", "--concurrency", "1,2", "--requests", "1", "--max-tokens", "8", "--gpu", "none", "--json",
	}, &out, &errs)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var c proxies.Comparison
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Levels) != 2 || len(c.Short.Direct) != 2 || len(c.Short.Proxied) != 2 {
		t.Fatalf("%s", out.String())
	}
	for _, p := range c.Levels {
		for _, w := range append(p.Direct, p.Proxied...) {
			if w.Failures != 0 || w.Tokens != 8*p.Concurrency || w.TTFT < 9000 || w.P50 < 16000 {
				t.Errorf("%d at a time: %+v", p.Concurrency, w)
			}
		}
	}
}

// TestBenchCleanup: when bench ends, by any signal, the wattline that it started and suspended also ends.
func TestBenchCleanup(t *testing.T) {
	t.Parallel()
	upstream, _ := stubUpstream(t, stub.Config{Slots: 8, FirstToken: time.Millisecond, TokenGap: 2 * time.Millisecond})
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
		cmd := command(t, "bench", "--upstream", upstream, "--concurrency", "1", "--max-tokens", "50", "--gpu", "none")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		held := 0
		for until := time.Now().Add(patience); held == 0 && time.Now().Before(until); {
			for _, pid := range children(t, cmd.Process.Pid) {
				if processState(pid) == "T" {
					held = pid
				}
			}
			<-time.After(5 * time.Millisecond)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // looked at below
		if held == 0 {
			t.Fatalf("its wattline is never suspended:\n%s", errs.String())
		}
		for until := time.Now().Add(patience); processState(held) != ""; {
			if time.Now().After(until) {
				_ = syscall.Kill(held, syscall.SIGKILL)
				t.Errorf("%v: the wattline that bench started is left behind, %s", sig, processState(held))
				break
			}
			<-time.After(5 * time.Millisecond)
		}
		if last := strings.TrimSpace(errs.String()); cmd.ProcessState.ExitCode() == exitFailed != strings.HasSuffix(last, "wattline: interrupted") {
			t.Errorf("%v: %v, %q", sig, cmd.ProcessState, last)
		}
	}
}

// processState returns a process's state letter of /proc, or "" if it has ended or is a zombie.
func processState(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	if state, _, _ := strings.Cut(after, " "); state != "Z" && state != "X" {
		return state
	}
	return ""
}

// TestBenchContender: a proxy that the user has started, below a path and with chunked replies, is measured like the others.
func TestBenchContender(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream := free.Addr().String()
	free.Close()
	mine := httptest.NewServer(http.StripPrefix("/api", &httputil.ReverseProxy{
		FlushInterval:  -1,
		ErrorLog:       log.New(io.Discard, "", 0),
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: upstream}) },
		ModifyResponse: func(r *http.Response) error { r.Header.Del("Content-Length"); r.ContentLength = -1; return nil },
	}))
	defer mine.Close()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	args := []string{"bench", "--proxies", "--rounds", "1", "--window", "300ms", "--scale", "0.02", "--loads", "hundred,short", "--only", "direct,mine",
		"--upstream-at", upstream, "--contender", "mine=" + mine.URL + "/api", "--out", dir}
	if code := run(t.Context(), args, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r proxies.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Sections {
		row := s.Rows[1]
		// ReverseProxy itself loses the end of some streams.
		if m := &row.Median; row.Name != "mine" || s.Short && m.Failures > 0 || m.Requests+m.Events == 0 || !(m.RSS > 1) || !(m.CPU > 0) {
			t.Errorf("%s, %s: %+v", s.Title, row.Name, m)
		}
	}
	if !strings.Contains(out.String(), "mine: "+mine.URL+"/api, started by the user, one process for all rounds: ") {
		t.Errorf("the report does not say who was measured:\n%s", out.String())
	}
	// The user's proxy was not stopped: it still answers, if only that its upstream has gone.
	resp, err := http.Get(mine.URL + "/api/health")
	if err != nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestBenchBadInput(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--rounds=-1"}, "--rounds is -1", exitUsage},
		{[]string{"--spend", "0s"}, "--spend 0s: both must", exitUsage},
		{[]string{"--upstream", "nonsense"}, "has no scheme", exitUsage},
		{[]string{"--concurrency", "0"}, "must be 1 or more", exitUsage},
		{[]string{"--proxies", "--scale", "2"}, "--scale", exitUsage},
		{[]string{"--proxies", "--contender", "mine"}, `"mine" must be NAME=http://HOST:PORT`, exitUsage},
		{[]string{"--proxies", "--contender", "nginx=http://127.0.0.1:1"}, `the name "nginx" is in the table already`, exitUsage},
		{[]string{"--proxies", "--contender", "mine=http://127.0.0.1:1"}, "upstream's address must be set", exitFailed},
		{[]string{"--proxies", "--loads", "many"}, `no load "many"`, exitUsage},
		{[]string{"--upstream", "http://127.0.0.1:1", "--gpu", "none"}, "connection refused", exitFailed},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var out, errs bytes.Buffer
		code := run(ctx, append([]string{"bench"}, c.args...), &out, &errs)
		cancel()
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		if last := lines[len(lines)-1]; code != c.code || !strings.Contains(last, c.want) {
			t.Errorf("%v: exit code %d, %q", c.args, code, last)
		}
	}
}
