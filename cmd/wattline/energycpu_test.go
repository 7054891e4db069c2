package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wattline/gpu/discover"
	"wattline/proxy/llamatest"
)

// powercap makes a folder like the kernel's, with a package of constant power until the test ends. If the machine
// pauses, the counter pauses too and then jumps; stall returns the longest pause between two writes so far.
func powercap(t *testing.T, watts int64) (root string, stall func() time.Duration) {
	t.Helper()
	root = t.TempDir()
	var longest atomic.Int64
	zone := filepath.Join(root, "class", "powercap", "intel-rapl:0")
	if err := os.MkdirAll(zone, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"name": "package-0\n", "max_energy_range_uj": "262143328850\n", "energy_uj": fmt.Sprintf("%012d\n", 0)} {
		if err := os.WriteFile(filepath.Join(zone, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(zone, "energy_uj"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with the test, which waits for it
		defer close(done)
		defer f.Close()
		begin, tick := time.Now(), time.NewTicker(time.Millisecond)
		defer tick.Stop()
		last := begin
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				now := time.Now()
				if _, err := f.WriteAt(fmt.Appendf(nil, "%012d\n", now.Sub(begin).Microseconds()*watts), 0); err != nil {
					t.Error(err)
					return
				}
				longest.Store(max(longest.Load(), int64(time.Since(last))))
				last = now
			}
		}
	}()
	t.Cleanup(func() { close(quit); <-done })
	return root, func() time.Duration { return time.Duration(longest.Load()) }
}

// TestCPUJoules: a real llama-server on a CPU that draws 60 W by a powercap folder. The ledger divides the server's share
// of the CPU time among the requests, the rest is the host's, and the ledger balances. The row has no GPU joules and
// names its energy source.
func TestCPUJoules(t *testing.T) {
	t.Parallel()
	const watts = 60
	up := llamatest.Start(t, "-c", "131072")
	tokens := llamatest.Tokens(t, up, time.Second, 400) // many steps of the counter
	root, stall := powercap(t, watts)
	w := serve(t, up.URL(), "--gpu", "auto", "--sys-root", root)
	w.awaitQuiet(t, 3) // until the counter's period and the idle draw are known
	machine, err := discover.New("/proc")
	if err != nil {
		t.Fatal(err)
	}
	theirsBefore, allBefore, ok := machine.CPUTime([]int{up.PID()})
	begin := time.Now()
	r := w.post(t.Context(), "/v1/chat/completions", map[string]any{
		"messages": []any{map[string]any{"role": "user", "content": strings.Repeat(" ba ce di", 400)}}, "stream": true, "max_tokens": tokens, "ignore_eos": true,
	})
	took := time.Since(begin)
	theirs, all, ok2 := machine.CPUTime([]int{up.PID()})
	if r.err != nil || r.status != 200 {
		t.Fatalf("status %d, %v", r.status, r.err)
	}
	w.stop(t)
	rec := w.stored(t, 100)[r.id]
	if rec == nil {
		t.Fatal("no row")
	}
	most, leap := int64(watts*took.Microseconds()), int64(watts*stall().Microseconds())
	if !ok || !ok2 {
		t.Fatal("the machine does not tell its CPU time")
	}
	// Other processes may keep many cores busy, so that the server's share is small.
	least := (float64(most)*(theirs-theirsBefore)/(all-allBefore) - float64(leap)) / 3
	if !rec.CPUUj.Valid || rec.CPUUj.V <= 0 || float64(rec.CPUUj.V) < least || rec.CPUUj.V > most*11/10+leap {
		t.Errorf("cpu_uj is %+v; the package drew %d uJ in %v, the server's part by CPU time is %.2f of %.2f s, the counter stood still for %v at most",
			rec.CPUUj, most, took, theirs-theirsBefore, all-allBefore, stall())
	}
	if rec.GPUUj.Valid || rec.GPUDevices != nil || rec.EnergySource != "rapl/counter" || rec.EnergyQuality == "unavailable" {
		t.Errorf("the row says %s %s, gpu_uj %+v on %v", rec.EnergySource, rec.EnergyQuality, rec.GPUUj, rec.GPUDevices)
	}
	t.Logf("%d uJ of %d uJ in %v, %s", rec.CPUUj.V, most, took, rec.EnergyQuality)
	if got := answer(t, "query", "--store", w.store, "--format", "csv", "--name", "conservation"); !strings.Contains(got, "RAPL/default") || !strings.HasSuffix(strings.TrimSpace(got), ",0,0") {
		t.Errorf("the ledger does not balance:\n%s", got)
	}
	if got := answer(t, "query", "--store", w.store, "--format", "csv", "SELECT CAST(round(joules_per_token * output_tokens * 1e6) AS INTEGER) FROM efficiency WHERE output_tokens > 0"); !strings.Contains(got, fmt.Sprint(rec.CPUUj.V)) {
		t.Errorf("joules_per_token is not cpu_uj (%d) by tokens:\n%s", rec.CPUUj.V, got)
	}
	if got := answer(t, "requests", "--store", w.store); !regexp.MustCompile(`J [ABC] CPU`).MatchString(got) {
		t.Errorf("the table does not show the processor's joules:\n%s", got)
	}
	got := answer(t, "query", "--store", w.store, "--format", "csv", "SELECT count(*), round(avg(mean_mw)/1000) FROM power WHERE device = 'RAPL' AND mean_mw > 0")
	var rows, mean int
	if _, err := fmt.Sscanf(strings.ReplaceAll(strings.TrimSpace(got[strings.Index(got, "\n"):]), ",", " "), "%d %d", &rows, &mean); err != nil || rows < 3 {
		t.Errorf("power rows: %q, %v", got, err)
	} else if slack := 3 + int(leap/1e6)/rows; mean < watts-slack || mean > watts+slack {
		t.Errorf("the rows say %d W on average, the package draws %d W; slack %d", mean, watts, slack)
	}
}
