package smi

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wattline/gpu"
	"wattline/meter"
)

const (
	fakeEnv = "WATTLINE_TEST_FAKE_SMI" // how this test's own binary shall play nvidia-smi
	rtx     = "GPU-11111111-2222-3333-4444-555555555555"
	h100    = "GPU-66666666-7777-8888-9999-000000000000"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeEnv); how != "" {
		os.Exit(play(how, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// play is nvidia-smi: it prints recorded output. "old" knows neither instant power nor the new name of
// the throttle reasons; "dying" ends after one line a card; "sick" cannot talk to the driver.
func play(how string, args []string) int {
	recorded, err := os.ReadFile("testdata/two-cards.txt")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	query := args[0]
	columns := append(slices.Clone(fixed), nil...)
	for _, f := range measured {
		columns = append(columns, f.name)
	}
	asked := strings.Split(strings.TrimPrefix(query, "--query-gpu="), ",")
	switch {
	case how == "sick":
		fmt.Println("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
		return 9
	case strings.HasPrefix(query, "--query-compute-apps"):
		apps, _ := os.ReadFile("testdata/apps.txt")
		os.Stdout.Write(apps)
		return 0
	case how == "old":
		for _, unknown := range []string{"power.draw.instant", "power.draw.average", "clocks_event_reasons.active", "temperature.memory"} {
			if slices.Contains(asked, unknown) {
				fmt.Printf("Field \"%s\" is not a valid field to query.\n", unknown)
				return 2
			}
		}
	}
	for text := range strings.Lines(string(recorded)) {
		cells := strings.Split(strings.TrimSpace(text), ", ")
		var out []string
		for _, a := range asked {
			i := slices.Index(columns, a)
			switch a {
			case "power.draw":
				i = slices.Index(columns, "power.draw.average")
			case "clocks_throttle_reasons.active":
				i = slices.Index(columns, "clocks_event_reasons.active")
			}
			out = append(out, cells[i])
		}
		fmt.Println(strings.Join(out, ", "))
	}
	if slices.Contains(args, "-lms") && how != "dying" {
		killed := make(chan os.Signal, 1)
		signal.Notify(killed, os.Interrupt)
		<-killed
	}
	return 0
}

// fake returns a source with this test as its nvidia-smi, and a channel that gets a value for every line
// and every end.
func fake(t *testing.T, how string) (*Source, chan struct{}) {
	t.Helper()
	t.Setenv(fakeEnv, how)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Clock: gpu.NewClock(), Path: self})
	changes := make(chan struct{}, 100)
	s.changed = func() { changes <- struct{}{} }
	return s, changes
}

// await waits for n changes.
func await(t *testing.T, changes chan struct{}, n int) {
	t.Helper()
	timeout := time.After(5 * time.Minute)
	for range n {
		select {
		case <-changes:
		case <-timeout:
			t.Fatal("nothing came from nvidia-smi within five minutes")
		}
	}
}

func TestCards(t *testing.T) {
	s, changes := fake(t, "new")
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].UUID != rtx || list[1].PCI != "0000:c3:00.0" || list[0].Name != "NVIDIA GeForce RTX 4090" {
		t.Fatalf("%+v, %v", list, err)
	}
	if list[0].Unavailable["ECC errors"] == "" || list[1].Unavailable["fan"] == "" || list[0].Unavailable["energy counter"] == "" {
		t.Errorf("lacks %v and %v", list[0].Unavailable, list[1].Unavailable)
	}
	a, errA := s.Open(rtx)
	b, errB := s.Open(h100)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	await(t, changes, 2)
	var r gpu.Reading
	if err := a.Read(gpu.MetricPower|gpu.MetricStatus|gpu.MetricProcesses, &r); err != nil {
		t.Fatal(err)
	}
	want := gpu.Status{
		UtilPct: meter.Some(97), MemUtilPct: meter.Some(61), MemUsedB: meter.Some(18022 << 20), MemTotalB: meter.Some(24564 << 20),
		TempC: meter.Some(66), SMClockMHz: meter.Some(2625), MemClockMHz: meter.Some(10501), LimitMw: meter.Some(450_000),
		Throttle: meter.Some(4), FanPct: meter.Some(54),
	}
	if r.InstantMw != meter.Some(312_450) || r.AverageMw != meter.Some(298_100) || r.Status != want {
		t.Errorf("%+v", r)
	}
	if len(r.Procs) != 2 || r.Procs[0] != (gpu.Process{PID: 4711, MemB: meter.Some(17890 << 20)}) || r.Procs[1].MemB.Valid {
		t.Errorf("processes %+v", r.Procs)
	}
	if r.PowerAt == 0 || r.PowerAt > r.Before {
		t.Errorf("the line is from %d, read at %d", r.PowerAt, r.Before)
	}
	if err := errors.Join(a.Close(), b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if s.cancel != nil {
		t.Error("nvidia-smi still runs after the last device was closed")
	}
}

// TestOldProgram: fields that an older nvidia-smi does not know are asked for by their old names, or
// given up with the reason.
func TestOldProgram(t *testing.T) {
	s, changes := fake(t, "old")
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Unavailable["instant power"] == "" || list[1].Unavailable["memory temperature"] == "" {
		t.Errorf("lacks %v", list[0].Unavailable)
	}
	d, err := s.Open(h100)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	await(t, changes, 2)
	var r gpu.Reading
	if err := d.Read(gpu.MetricPower|gpu.MetricStatus, &r); err != nil {
		t.Fatal(err)
	}
	if r.InstantMw.Valid || r.AverageMw != meter.Some(141_380) || r.Status.Throttle != meter.Some(0) || r.Status.MemTempC.Valid {
		t.Errorf("%+v", r)
	}
}

// TestDies: when the process ends the card is lost, not frozen at its last value.
func TestDies(t *testing.T) {
	s, changes := fake(t, "dying")
	// What a device returns just after the end is read in the goroutine that has seen it: a second later the
	// process is started again.
	var ends atomic.Int32
	told := s.changed
	s.changed = func() {
		s.mu.Lock()
		ended := s.broken != nil
		s.mu.Unlock()
		var r gpu.Reading
		if err := (&device{s: s, info: gpu.Info{UUID: rtx}}).Read(gpu.MetricPower, &r); ended {
			ends.Add(1)
			if !errors.Is(err, gpu.ErrLost) || r.AverageMw.Valid {
				t.Errorf("error %v, %+v", err, r)
			}
		}
		told()
	}
	d, err := s.Open(rtx)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	await(t, changes, 3+2) // the end, and started again
	if n := ends.Load(); n < 1 {
		t.Errorf("%d ends were seen", n)
	}
}

func TestNoProgram(t *testing.T) {
	s := New(Config{Clock: gpu.NewClock(), Path: filepath.Join(t.TempDir(), "nvidia-smi")})
	if _, err := s.List(); err == nil {
		t.Error("no program, and no error")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := New(Config{Clock: gpu.NewClock()}).List(); !errors.Is(err, gpu.ErrNone) || !strings.Contains(err.Error(), "install") {
		t.Errorf("no nvidia-smi in the path: %v", err)
	}
	sick, _ := fake(t, "sick")
	if _, err := sick.List(); err == nil || !strings.Contains(err.Error(), "couldn't communicate") {
		t.Errorf("a driver that does not answer: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	recorded, err := os.ReadFile("testdata/two-cards.txt")
	if err != nil {
		f.Fatal(err)
	}
	for text := range strings.Lines(string(recorded)) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q := newQuery()
		if l, ok := q.parse(text, true); ok && (l.instant.V < 0 || l.info.UUID == "") {
			t.Errorf("%q gave %+v", text, l)
		}
		q.reject(text)
	})
}
