package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestStoppedReader: a reader of this program that was stopped is told to go on. Its deadline has passed, so it ends, and the
// log is folded back.
func TestStoppedReader(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{request(1), request(2)}}))
	reader := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldStopped$")
	reader.Env = append(os.Environ(), "WATTLINE_HOLD_STOPPED="+s.Path())
	reader.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // else it is hung up when its group loses its parent
	must(t, reader.Start())
	awaitState(t, reader.Process.Pid, "T")
	for i := 0; logSize(s.Path()) <= walLimit; i++ {
		var rows sink.Rows
		for j := range 100 {
			rows.Gaps = append(rows.Gaps, &sink.Gaps{ID: fmt.Sprint(i, j), StartedAt: epoch, GapsUs: make([]uint32, sink.MaxGaps)})
		}
		must(t, s.Write(t.Context(), &rows))
	}
	toldAt := time.Now()
	s.keepLogSmall(t.Context(), &toldAt)
	must(t, reader.Wait())
	s.keepLogSmall(t.Context(), &toldAt)
	if size := logSize(s.Path()); size != 0 {
		t.Errorf("the log has %d bytes", size)
	}
}

// awaitState waits until a process is in a state of /proc/PID/stat.
func awaitState(t *testing.T, pid int, state string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		must(t, err)
		if _, is, _ := strings.Cut(string(text), ") "); strings.HasPrefix(is, state) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d: %s", pid, text)
		}
	}
}

// TestHoldStopped is the reader of TestStoppedReader.
func TestHoldStopped(t *testing.T) {
	path := os.Getenv("WATTLINE_HOLD_STOPPED")
	if path == "" {
		t.Skip("a part of TestStoppedReader")
	}
	r, err := OpenReader(t.Context(), path)
	must(t, err)
	rows, err := r.DB().QueryContext(context.Background(), "SELECT id FROM requests")
	must(t, err)
	rows.Next()
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCONT)
	must(t, syscall.Kill(os.Getpid(), syscall.SIGSTOP))
	<-woken // this thread may run on for a moment before it stops
	must(t, rows.Close())
}
