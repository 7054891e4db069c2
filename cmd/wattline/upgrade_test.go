//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
)

// TestUpgradeUnderLoad replaces wattline while it serves short requests on reused and on new connections, and long
// streams. No request is refused, no stream is truncated, and every row is stored once.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t, "-np", "8", "-c", "262144", "--threads-http", "64")
	tokens := llamatest.Tokens(t, up, 200*time.Millisecond, 200) // alone: here up to eight share the server
	w := serve(t, up.URL(), "--stop-timeout", "5m")              // a busy machine is no reason to cut a stream
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var ended []reply
	note := func(r reply) {
		mu.Lock()
		defer mu.Unlock()
		ended = append(ended, r)
	}
	var wg sync.WaitGroup
	for _, client := range []*http.Client{
		{Transport: &http.Transport{}}, {Transport: &http.Transport{DisableKeepAlives: true}},
	} {
		wg.Go(func() {
			for ctx.Err() == nil {
				note(w.postBy(context.WithoutCancel(ctx), client, "/completion", map[string]any{"prompt": "ba ce di", "n_predict": 2}))
			}
		})
	}
	const handovers = 2
	pid := w.cmd.Process.Pid
	for range handovers {
		var done func()
		tokens, done = w.together(t, 3, tokens, note)
		wg.Go(done)
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		pid = awaitSuccessor(t, w)
	}
	stop()
	wg.Wait()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-w.waited; err != nil {
		t.Errorf("the first process ended with %v", err)
	}
	awaitEnd(t, pid)
	rows := w.stored(t, 100000)
	streams := 0
	for i, r := range ended {
		switch {
		case r.err != nil || r.status != http.StatusOK:
			t.Errorf("request %d: status %d, %v", i, r.status, r.err)
			continue
		case rows[r.id] == nil || rows[r.id].Outcome != meter.OK:
			t.Errorf("request %d has the row %+v", i, rows[r.id])
		case bytes.HasPrefix(r.body, []byte("data:")):
			streams++
			if !bytes.HasSuffix(bytes.TrimSpace(r.body), []byte("[DONE]")) {
				t.Errorf("stream %d is cut after %d bytes", i, len(r.body))
			}
		}
	}
	if len(rows) != len(ended) || streams < 3*handovers {
		t.Errorf("%d requests ended, %d of them streams, and there are %d rows", len(ended), streams, len(rows))
	}
	t.Logf("%d requests, %d streams over %d handovers: none refused, none cut, %d rows", len(ended), streams, handovers, len(rows))
}

// TestSystemdSockets: wattline takes the unit's sockets in order, clients first, instead of the flags' addresses, and
// notifies systemd that it is ready. On SIGUSR2 the new process serves on the same sockets and reports itself as the
// unit's main process; otherwise systemd would stop it with the old one.
func TestSystemdSockets(t *testing.T) {
	t.Parallel()
	var files []*os.File
	var addrs []string
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files, addrs = append(files, f), append(addrs, ln.Addr().String())
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	cmd := command(t, "serve", "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1")
	// exec keeps the shell's process ID, which LISTEN_PID must be.
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec -a wattline "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/bash"
	cmd.ExtraFiles = files
	cmd.Env = append(cmd.Env, "LISTEN_FDS=2", "LISTEN_FDNAMES=wattline.socket:wattline.socket", "NOTIFY_SOCKET="+notify.LocalAddr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := notify.SetReadDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, err := notify.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Fatalf("notification %q, %v", buf[:n], err)
	}
	serves := func() {
		t.Helper()
		for path, want := range map[string]int{addrs[1] + "/healthz": http.StatusOK, addrs[0] + "/v1/models": http.StatusBadGateway} { // admin, clients
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + path)
			if err != nil || resp.StatusCode != want {
				t.Fatalf("%s: %v, %v", path, resp, err)
			}
			resp.Body.Close()
		}
	}
	serves()
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	if n, err = notify.Read(buf); err != nil {
		t.Fatal(err)
	}
	var successor int
	if _, err := fmt.Sscanf(string(buf[:n]), "READY=1\nMAINPID=%d", &successor); err != nil {
		t.Fatalf("the successor says %q: %v", buf[:n], err)
	}
	defer func() { _ = syscall.Kill(successor, syscall.SIGKILL) }() // gone already if all went well
	if successor == cmd.Process.Pid {
		t.Errorf("the predecessor, %d, calls itself its successor", successor)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the predecessor ended with %v", err)
	}
	serves()
	if err := syscall.Kill(successor, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if n, err = notify.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "STOPPING=1") {
		t.Errorf("the successor says %q, %v, before it stops", buf[:n], err)
	}
	awaitEnd(t, successor)
}

// awaitSuccessor waits until a process logs that the new process serves, and returns the new process ID. The old process
// may already have ended.
func awaitSuccessor(t *testing.T, w *wattlineProcess) int {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		w.mu.Lock()
		said := successorLine.FindAllStringSubmatch(w.stderr.String(), -1)
		w.mu.Unlock()
		if len(said) <= w.handedOver {
			continue
		}
		pid, err := strconv.Atoi(said[w.handedOver][1])
		if err != nil {
			t.Fatal(err)
		}
		w.handedOver++
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // gone already if all went well
		return pid
	}
	t.Fatal("the new process does not serve in time")
	return 0
}

var successorLine = regexp.MustCompile(`(?m)the new process serves.* pid=(\d+)`)

// awaitEnd waits until a process that is not our child has ended. It may remain a zombie if its new parent, the first
// process of a container, does not wait for it.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " Z") {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("process %d is still there", pid)
}
