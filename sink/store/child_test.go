package store

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// Some tests need a process that can be killed, limited or stripped of its rights: they start this
// test binary again, and TestMain runs the part that childEnv names on the store named childStore.
const (
	childEnv   = "WATTLINE_STORE_TEST_CHILD"
	childStore = "WATTLINE_STORE_TEST_PATH"
)

func TestMain(m *testing.M) {
	part := os.Getenv(childEnv)
	if part == "" {
		os.Exit(m.Run())
	}
	parts := map[string]func(path string) error{"write": childWrite, "hold": childHold}
	maps.Copy(parts, childrenOfLinux())
	if err := parts[part](os.Getenv(childStore)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child starts a part; its output is read line by line from lines.
func child(t *testing.T, part, path string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	cmd = childCommand(t, part, path)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // harmless where it has ended
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func childCommand(t *testing.T, part, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+part, childStore+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// childWrite offers 250 rows a second for ever, every fifth with its energy pending and settled 25 rows
// later. For each it prints its number, the time, and how many rows the queue says are committed.
func childWrite(path string) error {
	s, err := Open(context.Background(), Config{Path: path, Log: quiet()})
	if err != nil {
		return err
	}
	q := sink.New(sink.Config{Store: s, Log: slog.Default()})
	out := bufio.NewWriter(os.Stdout)
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		<-tick.C
		rec := request(i)
		if i%5 == 0 {
			rec.EnergyQuality = meter.EnergyPending
		}
		q.Offer(rec)
		if settled := i - 25; settled >= 0 && settled%5 == 0 {
			rec := request(settled)
			rec.EnergyQuality, rec.GPUUj = meter.EnergyShared, meter.Some(int64(settled))
			q.Settle(rec)
		}
		fmt.Fprintln(out, i, time.Now().UnixNano(), q.Stats().Requests.Written)
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// progress holds the lines that childWrite printed until it was killed.
type progress struct {
	offered   []time.Time // by row
	committed int         // rows 0 to committed-1
	stall     time.Duration
}

// watch reads n of childWrite's lines. A machine that stands still stops the store's clock too: the longest
// pause between two lines is kept.
func watch(t *testing.T, out *bufio.Scanner, n int) (p progress) {
	t.Helper()
	for len(p.offered) < n && out.Scan() {
		var i int
		var at int64
		if _, err := fmt.Sscan(out.Text(), &i, &at, &p.committed); err != nil || i != len(p.offered) {
			t.Fatalf("the child says %q: %v", out.Text(), err)
		}
		p.offered = append(p.offered, time.Unix(0, at))
		if i > 0 {
			p.stall = max(p.stall, p.offered[i].Sub(p.offered[i-1]))
		}
	}
	return p
}

func TestKillLosesAtMostAQuarterSecond(t *testing.T) {
	for _, lines := range []int{5, 88, 175, 226, 327} {
		const most = 10 // a writer that is really too slow is so each time, a machine that others use is not
		for try := 1; ; try++ {
			late := killAfter(t, lines)
			if late == 0 {
				break
			}
			if try == most {
				t.Errorf("killed after %d rows, %d were lost that were older than 250 ms, %d times in a row", lines, late, most)
				break
			}
		}
	}
}

// killAfter kills a process that has offered so many rows, looks at what is stored, and returns how many rows are
// missing that were offered more than 250 ms, and the machine's longest pause, before the kill.
func killAfter(t *testing.T, lines int) (late int) {
	t.Helper()
	path := t.TempDir() + "/wattline.db"
	cmd, out := child(t, "write", path)
	p := watch(t, out, lines)
	killed := time.Now()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"

	s := reopen(t, path)
	got := map[string]*meter.Record{}
	must(t, tempReader(t, s).Each(t.Context(), time.Time{}, func(r *meter.Record) error {
		got[r.ID] = r
		return nil
	}))
	missing := 0
	for i, at := range p.offered {
		rec := got[request(i).ID]
		if rec == nil {
			missing++
			if age := killed.Sub(at); age > 250*time.Millisecond+p.stall {
				late++
			}
			if i < p.committed {
				t.Errorf("row %d is missing, %d were committed", i, p.committed)
			}
			continue
		}
		want := meter.EnergyUnavailable
		if i%5 == 0 {
			want = meter.EnergyPartial
			if rec.GPUUj.Valid {
				want = meter.EnergyShared
			}
		}
		if rec.EnergyQuality != want {
			t.Errorf("row %d is %s, want %s", i, rec.EnergyQuality, want)
		}
	}
	t.Logf("killed after %d rows: %d known as committed, %d stored, %d missing, %d of them offered too long before; longest pause of the machine %v",
		len(p.offered), p.committed, len(got), missing, late, p.stall)
	w, err := s.Waiting(t.Context())
	must(t, err)
	if w.Pending != 0 || w.Rows[TableRequests] != int64(len(got)) {
		t.Errorf("after the restart %d rows are pending and %d of %d can ship", w.Pending, w.Rows[TableRequests], len(got))
	}
	return late
}

// childHold opens a store for writing and keeps it until it is killed.
func childHold(path string) error {
	s, err := Open(context.Background(), Config{Path: path, Log: quiet()})
	if err != nil {
		return err
	}
	fmt.Println("open")
	<-make(chan struct{}) // until killed
	return s.Close()
}
