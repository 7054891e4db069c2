package rapl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"

	"wattline/gpu"
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
		write(t, root, f.Name, string(f.Data))
	}
	return root
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSum: packages and DRAM of both sockets are added up, nothing else, and a counter that wraps goes
// on.
func TestSum(t *testing.T) {
	root := unpack(t, "two-sockets.txtar")
	s := New(gpu.NewClock(), root)
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Name != "2 CPU package(s), 2 DRAM zone(s)" || list[0].Kind != gpu.KindCPU {
		t.Fatalf("%+v, %v", list, err)
	}
	d, err := s.Open(UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	read := func() int64 {
		t.Helper()
		var r gpu.Reading
		if err := d.Read(gpu.MetricEnergy, &r); err != nil || !r.Energy.OK || r.Energy.Before > r.Energy.After {
			t.Fatalf("%+v, %v", r.Energy, err)
		}
		return r.Energy.Uj
	}
	first := read()
	zone := func(name, uj string) { write(t, root, "class/powercap/"+name+"/energy_uj", uj+"\n") }
	zone("intel-rapl:0", "1000")      // wrapped: 328,850 + 1 + 1,000
	zone("intel-rapl:0:0", "9999999") // core: inside the package
	zone("intel-rapl:0:1", "1500000") // + 500,000
	zone("intel-rapl:1", "5000010")   // + 10
	zone("intel-rapl:2", "999999999") // psys
	if got := read() - first; got != 329_851+500_000+10 {
		t.Errorf("the sum grew by %d uJ", got)
	}
	for range 3 { // many wraps
		zone("intel-rapl:0", "262143328850")
		read()
		zone("intel-rapl:0", "0")
		read()
	}
	zone("intel-rapl:0", "1000")
	if got := read() - first; got != 329_851+500_010+3*262_143_328_851 {
		t.Errorf("after three more wraps the sum grew by %d uJ", got)
	}
}

// TestPermission: files that only root may read give a sentence with the remedy.
func TestPermission(t *testing.T) {
	s := New(gpu.NewClock(), unpack(t, "two-sockets.txtar"))
	s.open = func(path string) (*gpu.SysNumber, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	_, err := s.Open(UUID)
	if !errors.Is(err, gpu.ErrPermission) || !strings.Contains(err.Error(), "udev") || !strings.Contains(err.Error(), "root") {
		t.Errorf("error %v", err)
	}
}

// TestGone: a zone that vanishes makes the whole sum unknown, not smaller.
func TestGone(t *testing.T) {
	root := unpack(t, "two-sockets.txtar")
	d, err := New(gpu.NewClock(), root).Open(UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write(t, root, "class/powercap/intel-rapl:1/energy_uj", "")
	var r gpu.Reading
	if err := d.Read(gpu.MetricEnergy, &r); !errors.Is(err, gpu.ErrLost) || r.Energy.OK {
		t.Errorf("error %v, energy %+v", err, r.Energy)
	}
}

func TestNone(t *testing.T) {
	_, err := New(gpu.NewClock(), t.TempDir()).List()
	if !errors.Is(err, gpu.ErrNone) {
		t.Errorf("a machine without powercap: %v", err)
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	d, err := New(gpu.NewClock(), unpack(t, "two-sockets.txtar")).Open(UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var r gpu.Reading
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Read(gpu.MetricEnergy, &r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a read allocates %g times", n)
	}
}

// TestLongPause: a counter that may have wrapped more than once since it was read does not go on: the device counts as lost.
func TestLongPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := unpack(t, "two-sockets.txtar")
		d, err := New(gpu.NewClock(), root).Open(UUID)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var r gpu.Reading
		for _, pause := range []time.Duration{time.Second, 60 * time.Second, 60 * time.Second} {
			time.Sleep(pause)
			if err := d.Read(gpu.MetricEnergy, &r); err != nil {
				t.Errorf("after %v: %v", pause, err)
			}
		}
		time.Sleep(10 * time.Minute)
		if err := d.Read(gpu.MetricEnergy, &r); !errors.Is(err, gpu.ErrLost) {
			t.Errorf("after 10 minutes: %v, %+v", err, r.Energy)
		}
	})
}
