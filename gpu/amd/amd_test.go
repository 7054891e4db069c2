package amd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"wattline/gpu"
	"wattline/meter"
)

// unpack lays a golden tree out in a folder.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join("testdata", archive))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range ar.Files {
		path := filepath.Join(root, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// open lists a tree's one card and opens it.
func open(t *testing.T, root string) gpu.Device {
	t.Helper()
	s := New(gpu.NewClock(), root)
	list, err := s.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	d, err := s.Open(list[0].UUID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

const all = gpu.MetricEnergy | gpu.MetricPower | gpu.MetricStatus

func TestCard(t *testing.T) {
	d := open(t, unpack(t, "rx7900.txtar"))
	in := d.Info()
	if in.UUID != "AMD-a1b2c3d4e5f60718" || in.PCI != "0000:03:00.0" || in.Name != "AMD GPU 0x744c" || in.Supported != all || in.Unavailable["instant power"] == "" {
		t.Errorf("info %+v", in)
	}
	var r gpu.Reading
	if err := d.Read(all, &r); err != nil {
		t.Fatal(err)
	}
	if r.AverageMw != meter.Some(213_000) || r.InstantMw.Valid || r.Energy.Uj != 918_273_645 || !r.Energy.OK {
		t.Errorf("power %+v %+v, energy %+v", r.InstantMw, r.AverageMw, r.Energy)
	}
	want := gpu.Status{
		UtilPct: meter.Some(87), MemUtilPct: meter.Some(41), MemUsedB: meter.Some(17_179_869_184), MemTotalB: meter.Some(25_753_026_560),
		TempC: meter.Some(61), MemTempC: meter.Some(78), SMClockMHz: meter.Some(2371), MemClockMHz: meter.Some(1249), LimitMw: meter.Some(327_000),
	}
	if r.Status != want {
		t.Errorf("status %+v, want %+v", r.Status, want)
	}
}

// TestAPU: what an integrated GPU lacks is null with a reason, also a file that is there but empty.
func TestAPU(t *testing.T) {
	d := open(t, unpack(t, "apu.txtar"))
	in := d.Info()
	for _, what := range []string{"energy counter", "memory", "power limit", "average power", "SM clock"} {
		if in.Unavailable[what] == "" {
			t.Errorf("no reason for the missing %s", what)
		}
	}
	var r gpu.Reading
	if err := d.Read(all, &r); err != nil {
		t.Fatal(err)
	}
	if in.UUID != "AMD-0000:c4:00.0" || r.Energy.OK || r.AverageMw.Valid || r.InstantMw != meter.Some(9113) || r.Status.MemUsedB.Valid {
		t.Errorf("%s: %+v", in.UUID, r)
	}
}

// TestGone: a card that is unbound from its driver is lost; one value that fails is only null.
func TestGone(t *testing.T) {
	root := unpack(t, "rx7900.txtar")
	d := open(t, root)
	spoil := func(name string) {
		if err := os.WriteFile(filepath.Join(root, "class/drm/card1/device", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spoil("gpu_busy_percent")
	var r gpu.Reading
	if err := d.Read(gpu.MetricStatus, &r); err != nil || r.Status.UtilPct.Valid || !r.Status.TempC.Valid {
		t.Errorf("error %v, status %+v", err, r.Status)
	}
	spoil("hwmon/hwmon4/power1_average")
	if err := d.Read(gpu.MetricPower, &r); !errors.Is(err, gpu.ErrLost) {
		t.Errorf("error %v, want a lost device", err)
	}
}

func TestNone(t *testing.T) {
	if _, err := New(gpu.NewClock(), t.TempDir()).List(); !errors.Is(err, gpu.ErrNone) {
		t.Errorf("a machine without cards: %v", err)
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	d := open(t, unpack(t, "rx7900.txtar"))
	var r gpu.Reading
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Read(all, &r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a read allocates %g times", n)
	}
}
