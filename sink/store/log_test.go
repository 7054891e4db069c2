package store

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestLogIsTruncated: a log that has grown is folded back once its readers have finished, and the log says who keeps it.
func TestLogIsTruncated(t *testing.T) {
	s := tempStore(t)
	grow := func() {
		t.Helper()
		for i := 0; logSize(s.Path()) <= walLimit; i++ {
			must(t, s.Write(t.Context(), &sink.Rows{Gaps: []*sink.Gaps{{ID: strconv.Itoa(i) + time.Now().String(), StartedAt: epoch, GapsUs: make([]uint32, sink.MaxGaps)}}}))
		}
	}
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{request(1), request(2)}}))
	reader := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldSnapshot$")
	reader.Env = append(os.Environ(), "WATTLINE_HOLD="+s.Path())
	out, err := reader.StdoutPipe()
	must(t, err)
	must(t, reader.Start())
	ready := make([]byte, 5)
	_, err = out.Read(ready)
	must(t, err)
	grow()
	kept, err := s.truncateLog(t.Context())
	must(t, err)
	if kept <= walLimit {
		t.Errorf("a reader keeps the log, but %d bytes are told", kept)
	}
	if who := logReaders(findReaders(s.Path())); !strings.HasPrefix(who, strconv.Itoa(reader.Process.Pid)+" ") {
		t.Errorf("the reader is %d, not %q", reader.Process.Pid, who)
	}
	must(t, reader.Process.Kill())
	_ = reader.Wait() // killed
	kept, err = s.truncateLog(t.Context())
	must(t, err)
	if size := logSize(s.Path()); kept != 0 || size != 0 {
		t.Errorf("without readers %d bytes are kept, %d told", size, kept)
	}
}

// TestHoldSnapshot is the reader of TestLogIsTruncated.
func TestHoldSnapshot(t *testing.T) {
	path := os.Getenv("WATTLINE_HOLD")
	if path == "" {
		t.Skip("a part of TestLogIsTruncated")
	}
	r, err := OpenReader(t.Context(), path)
	must(t, err)
	rows, err := r.DB().QueryContext(context.Background(), "SELECT id FROM requests")
	must(t, err)
	rows.Next()
	_, _ = os.Stdout.WriteString("ready")
	select {}
}
