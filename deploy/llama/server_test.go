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
	"testing"
	"time"
)

// realServer finds or fetches a real llama-server and starts it with the small model.
func realServer(t *testing.T, args ...string) (*Server, error) {
	t.Helper()
	bin, err := Find(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(args, "-m") && !slices.Contains(args, "--models-dir") {
		model, err := TinyModel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-m", model)
	}
	return Start(t.Context(), bin, append([]string{"--no-webui", "-np", "4", "-c", "8192", "--threads", "1"}, args...)...)
}

func mustServer(t *testing.T, args ...string) *Server {
	t.Helper()
	s, err := realServer(t, args...)
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

func TestServer(t *testing.T) {
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
	if !strings.Contains(s.Log(), "model loaded") {
		t.Errorf("log:\n%s", s.Log())
	}
}

func TestStop(t *testing.T) {
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

func TestStopDuringAStream(t *testing.T) {
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

// TestRouter: a router starts its own program for each model, also when the fetched one is run by its own loader.
func TestRouter(t *testing.T) {
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
	if alive(-s.PID()) {
		t.Errorf("processes of group %d are left", s.PID())
	}
}

func TestTwoServers(t *testing.T) {
	var wg sync.WaitGroup
	servers := make([]*Server, 2)
	for i := range servers {
		wg.Go(func() {
			var err error
			if servers[i], err = realServer(t); err != nil {
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

func TestStartFailure(t *testing.T) {
	_, err := realServer(t, "-m", filepath.Join(t.TempDir(), "absent.gguf"))
	if err == nil || !strings.Contains(err.Error(), "ended before it was ready") || !strings.Contains(err.Error(), "absent.gguf") {
		t.Errorf("err = %v, want the server's own words about absent.gguf", err)
	}
	_, err = realServer(t, "--no-such-flag")
	if err == nil || !strings.Contains(err.Error(), "--no-such-flag") {
		t.Errorf("err = %v, want the server's own words about the flag", err)
	}
}

func TestStartTimeoutAndCancel(t *testing.T) {
	// A program that writes its pid, runs and never listens.
	path, pidFile := filepath.Join(t.TempDir(), "silent"), filepath.Join(t.TempDir(), "pid")
	writeProgram(t, path, "#!/bin/sh\necho $$ >'"+pidFile+"'\nexec sleep 600\n")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := Start(ctx, Binary{Path: path}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want a timeout", err)
	}
	text, err := os.ReadFile(pidFile)
	if pid, aerr := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || aerr != nil || alive(pid) {
		t.Errorf("process %q is left (%v)", text, errors.Join(err, aerr))
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Binary{Path: path}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

func TestStartPortTaken(t *testing.T) {
	// The first run says what llama-server says of a taken port; the second ends in another way.
	mark := filepath.Join(t.TempDir(), "ran")
	path := filepath.Join(t.TempDir(), "server")
	writeProgram(t, path, "#!/bin/sh\n[ -e '"+mark+"' ] && { echo second; exit 3; }\ntouch '"+mark+"'\necho \"couldn't bind HTTP server socket\"; exit 1\n")
	_, err := Start(t.Context(), Binary{Path: path})
	if err == nil || !strings.Contains(err.Error(), "second") || errors.Is(err, errPortTaken) {
		t.Errorf("err = %v, want the second run's", err)
	}
}

func TestReservePort(t *testing.T) {
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

// TestServerOfAKilledParent has a second copy of this test binary start a server and be killed.
func TestServerOfAKilledParent(t *testing.T) {
	if os.Getenv(envOrphan) != "" {
		s, err := realServer(t)
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("pid " + strconv.Itoa(s.PID()) + "\n")
		select {} // until killed
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerOfAKilledParent$")
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
