//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tunable is a server of one flag: its --help names -np, and replies are twice as fast with -np 8. pids lists those started.
type tunable struct{ program, workload, pids string }

func newTunable(t *testing.T) *tunable {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &tunable{filepath.Join(dir, "llama-server"), filepath.Join(dir, "w.json"), filepath.Join(dir, "pids")}
	script := fmt.Sprintf(`#!/bin/bash
gap=4ms
while [ $# -gt 0 ]; do
	case "$1" in
	--help) echo "-np,   --parallel N                     number of server slots"; exit ;;
	--port) port=$2; shift ;;
	-np) [ "$2" = 8 ] && gap=2ms; shift ;;
	esac
	shift
done
echo $$ >> %q
exec -a wattline %q stub --listen 127.0.0.1:$port --header-delay 1ms --first-token 5ms --token-gap $gap
`, s.pids, exe)
	if err := errors.Join(os.WriteFile(s.program, []byte(script), 0o700), //nolint:gosec // it is run
		os.WriteFile(s.workload, []byte(`{"prompt_sizes": "50", "output_tokens": [24], "tasks": ["coding"], "requests": 2}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	return s
}

// started are the servers that were started.
func (s *tunable) started(t *testing.T) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(s.pids)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// gone waits until none of the servers that were started lives.
func (s *tunable) gone(t *testing.T) {
	t.Helper()
	for _, pid := range s.started(t) {
		for deadline := time.Now().Add(30 * time.Second); syscall.Kill(pid, 0) == nil; <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("server %d is still there", pid)
			}
		}
	}
}

// TestTune: the planted flag is found, proven and named in the command line to use, and no server is left.
func TestTune(t *testing.T) {
	t.Parallel()
	s := newTunable(t)
	cmd := command(t, "tune", "--gpu", "none", "--for", "tokens-per-second", "--budget", "60s", "--margin", "5", "--workload", s.workload, "--", s.program, "-np", "4", "--port", "1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	if text := out.String(); !strings.Contains(text, "Comparing -np 8 with the flags as given") || !strings.Contains(text, "interleaved, A B B A") ||
		!strings.Contains(text, "\n  "+s.program+" --port 1 -np 8\n") || !strings.Contains(text, "Use (end-to-end time -") {
		t.Errorf("%s%s", text, errs.String())
	}
	if n := len(s.started(t)); n < 4+2*2 { // four candidates, and A and B in turns for as many rounds as the budget allows
		t.Errorf("%d servers were started", n)
	}
	s.gone(t)
}

// TestTuneEnds: Ctrl-C and kill -9 leave no server behind.
func TestTuneEnds(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, os.Kill} {
		s := newTunable(t)
		cmd := command(t, "tune", "--gpu", "none", "--for", "ttft", "--budget", "5m", "--workload", s.workload, "--", s.program)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); len(s.started(t)) < 2; <-time.After(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no server was started: %s", errs.String())
			}
		}
		_ = cmd.Process.Signal(sig)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); sig == os.Interrupt && (code != exitFailed || !strings.Contains(errs.String(), "interrupted")) {
			t.Errorf("%s: exit %d, %s", sig, code, errs.String())
		}
		s.gone(t)
	}
}

// TestTuneBudget: a budget that the search uses up ends with a sentence and recommends nothing.
func TestTuneBudget(t *testing.T) {
	t.Parallel()
	s := newTunable(t)
	began := time.Now()
	cmd := command(t, "tune", "--gpu", "none", "--for", "tokens-per-second", "--budget", "1ms", "--workload", s.workload, "--", s.program)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err == nil || code != exitFailed || !strings.Contains(string(out), "the budget was used up") || strings.Contains(string(out), "Use (") {
		t.Errorf("exit %d after %s, %s", code, time.Since(began), out)
	}
	s.gone(t)
}
