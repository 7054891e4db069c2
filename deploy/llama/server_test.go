package llama

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// realServer finds or fetches a real llama-server and starts it with the small model.
func realServer(t *testing.T, cfg Config) (*Server, error) {
	t.Helper()
	bin, err := Find(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Model == "" && !slices.Contains(cfg.Args, "--models-dir") {
		if cfg.Model, err = TinyModel(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Args = append([]string{"--no-webui", "-np", "4", "-c", "8192", "--threads", "1"}, cfg.Args...)
	return Start(t.Context(), bin, cfg)
}

func mustServer(t *testing.T, args ...string) *Server {
	t.Helper()
	s, err := realServer(t, Config{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// alive reports whether a process of this id exists, dead children that nobody waited for included.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestServerStreamsAChat(t *testing.T) {
	s := mustServer(t)
	body := `{"messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":8}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text string
	var predicted int
	var done bool
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		var event struct {
			Choices []struct{ Delta struct{ Content string } }
			Timings struct {
				PredictedN int `json:"predicted_n"`
			}
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatalf("event %s: %v", data, err)
		}
		for _, c := range event.Choices {
			text += c.Delta.Content
		}
		predicted = max(predicted, event.Timings.PredictedN)
	}
	if text == "" || predicted != 8 || !done {
		t.Errorf("text %q, predicted_n %d, [DONE] %v; want some text, 8, true", text, predicted, done)
	}
	if s.Version() == "" || !strings.Contains(s.Log(), "model loaded") {
		t.Errorf("version %q, log:\n%s", s.Version(), s.Log())
	}
}

func TestStopLeavesNoProcess(t *testing.T) {
	s := mustServer(t)
	pid := s.PID()
	if !alive(pid) {
		t.Fatalf("process %d does not exist", pid)
	}
	if err := errors.Join(s.Stop(), s.Stop()); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Errorf("process %d still exists", pid)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is not closed")
	}
	if resp, err := http.Get(s.URL() + "/health"); err == nil {
		resp.Body.Close()
		t.Error("something still answers on its port")
	}
}

func TestStopDuringALiveStream(t *testing.T) {
	s := mustServer(t, "-c", "65536") // room for seconds of tokens
	body := `{"prompt":"hello","stream":true,"n_predict":1000000,"ignore_eos":true}`
	resp, err := http.Post(s.URL()+"/completion", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, resp.Body) }() // ends with the server
	begin := time.Now()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("Stop took %s", time.Since(begin))
	if alive(s.PID()) {
		t.Errorf("process %d still exists", s.PID())
	}
}

// TestRouterStartsItsModels is what a fetched server, run by its own loader, can get wrong: a router
// starts itself again for each model.
func TestRouterStartsItsModels(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.gguf"), tinyModel, 0o644); err != nil {
		t.Fatal(err)
	}
	s := mustServer(t, "--models-dir", dir)
	resp, err := http.Post(s.URL()+"/v1/completions", "application/json", strings.NewReader(`{"model":"one","prompt":"hello","max_tokens":3}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s, %v: %s\n%s", resp.Status, err, body, s.Log())
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	// The group holds the router and its models: an empty one says that all have ended.
	if err := syscall.Kill(-s.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("processes of group %d are left (%v)", s.PID(), err)
	}
}

func TestTwoServersAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	servers := make([]*Server, 2)
	for i := range servers {
		wg.Go(func() {
			var err error
			if servers[i], err = realServer(t, Config{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range servers {
		if s != nil {
			defer s.Stop()
		}
	}
	if t.Failed() {
		return
	}
	if servers[0].URL() == servers[1].URL() || servers[0].PID() == servers[1].PID() {
		t.Errorf("not two servers: %s (%d), %s (%d)", servers[0].URL(), servers[0].PID(), servers[1].URL(), servers[1].PID())
	}
}

func TestStartFailureShowsTheServersLastLines(t *testing.T) {
	_, err := realServer(t, Config{Model: filepath.Join(t.TempDir(), "absent.gguf")})
	if err == nil || !strings.Contains(err.Error(), "ended before it was ready") || !strings.Contains(err.Error(), "absent.gguf") {
		t.Errorf("err = %v, want the server's own words about absent.gguf", err)
	}
	_, err = realServer(t, Config{Args: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "--no-such-flag") {
		t.Errorf("err = %v, want the server's own words about the flag", err)
	}
}

func TestStartTimeoutAndCancel(t *testing.T) {
	// A program that runs and never listens.
	path := filepath.Join(t.TempDir(), "deaf")
	writeProgram(t, path, "#!/bin/sh\necho $$\nexec sleep 600\n")
	var log safeBuilder
	_, err := Start(t.Context(), Binary{Path: path}, Config{Log: &log, StartTimeout: 5 * time.Second}) // time enough to say its pid
	if err == nil || !strings.Contains(err.Error(), "not healthy after 5s") {
		t.Errorf("err = %v, want a timeout", err)
	}
	if pid, aerr := strconv.Atoi(strings.TrimSpace(log.String())); aerr != nil || alive(pid) {
		t.Errorf("process %q was left behind (%v)", log.String(), aerr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Binary{Path: path}, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

// safeBuilder is a strings.Builder for two goroutines.
type safeBuilder struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (s *safeBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestStartTriesAnotherPort(t *testing.T) {
	// The first run says what llama-server says of a taken port; the second ends in another way.
	mark := filepath.Join(t.TempDir(), "ran")
	path := filepath.Join(t.TempDir(), "server")
	writeProgram(t, path, "#!/bin/sh\n[ -e '"+mark+"' ] && { echo second; exit 3; }\ntouch '"+mark+"'\necho \"couldn't bind HTTP server socket\"; exit 1\n")
	_, err := Start(t.Context(), Binary{Path: path}, Config{})
	if err == nil || !strings.Contains(err.Error(), "second") || errors.Is(err, errPortTaken) {
		t.Errorf("err = %v, want the second run's", err)
	}
}

func TestReservedPortsDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port, release, err := reservePort()
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
	}
}

const envOrphan = "WATTLINE_LLAMA_TEST_ORPHAN"

// TestServerDiesWithItsParent has a second copy of this test binary start a server and be killed.
func TestServerDiesWithItsParent(t *testing.T) {
	if os.Getenv(envOrphan) != "" {
		s, err := realServer(t, Config{})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("pid " + strconv.Itoa(s.PID()) + "\n")
		select {} // until killed
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerDiesWithItsParent$")
	parent.Env = append(os.Environ(), envOrphan+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if digits, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, _ = strconv.Atoi(digits)
		}
	}
	_ = parent.Process.Kill()
	_ = parent.Wait() // it was killed, as it reports
	if pid == 0 {
		t.Fatal("the second copy started no server")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); running(pid); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("server %d outlived its parent by a minute", pid)
		}
	}
}

// running is alive, except that a dead process which init has not yet collected does not count.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
