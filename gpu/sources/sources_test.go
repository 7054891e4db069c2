package sources

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"wattline/gpu"
)

func config() Config { return Config{Clock: gpu.NewClock(), Log: slog.New(slog.DiscardHandler)} }

// TestChoices: these choices of --gpu are a contract, and every GPU source in the table is one.
func TestChoices(t *testing.T) {
	got := Choices()
	for _, name := range []string{"nvml", "smi", "amd", "sim"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is missing in %q", name, got)
		}
	}
	gpus := slices.DeleteFunc(slices.Clone(table), func(s source) bool { return s.use == useCPU })
	if len(got) != len(gpus)+2 || got[0] != auto || got[len(got)-1] != none {
		t.Errorf("%q", got)
	}
}

// TestOpen: auto does not fail for want of a card, and says why each source is missing; asking for one
// that is not there fails.
func TestOpen(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := config()
	c.SysRoot = t.TempDir() // no AMD card, no RAPL, no NVIDIA card that sleeps
	s, err := Open("auto", c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"amd", "rapl"} {
		if s.Unavailable[name] == "" {
			t.Errorf("%s: no reason in %v", name, s.Unavailable)
		}
	}
	if len(s.GPUs) == 0 && (s.Unavailable["nvml"] == "" || s.Unavailable["smi"] == "") {
		t.Errorf("no card, and these reasons: %v", s.Unavailable)
	}
	if len(s.GPUs) > 0 && s.Unavailable["smi"] != "" {
		t.Errorf("smi was tried although NVML works: %v", s.Unavailable)
	}
	c.Wake = true
	if _, err := Open("smi", c); !errors.Is(err, gpu.ErrNone) {
		t.Errorf("smi without nvidia-smi: %v", err)
	}
	for _, name := range []string{"no-such-source", "rapl"} {
		if _, err := Open(name, c); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := Open("none", c); err != nil || len(s.GPUs) != 0 || s.CPU != nil {
		t.Errorf("none: %+v, %v", s, err)
	}
}

// TestOpenSim: the simulated card is alone, and is to be told what is in flight.
func TestOpenSim(t *testing.T) {
	s, err := Open("sim", config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Devices()
	if err != nil || len(list) == 0 || !list[0].Info.Simulated || s.Activity == nil || s.CPU != nil {
		t.Errorf("%+v, %+v, %v", list, s, err)
	}
}

// fake is a source without devices.
type fake struct {
	gpu.Source
	name    string
	devices []gpu.Info
	closed  *[]string
}

func (f fake) List() ([]gpu.Info, error) { return f.devices, nil }
func (f fake) Close() error              { *f.closed = append(*f.closed, f.name); return nil }

// TestSearchPrefersTheBetterSource: a source that reads the same devices is tried only where the better
// one has none; a source without devices is closed.
func TestSearchPrefersTheBetterSource(t *testing.T) {
	saved := table
	defer func() { table = saved }()
	for _, has := range []bool{true, false} {
		var closed []string
		open := func(name string, devices ...gpu.Info) func(Config) (gpu.Source, error) {
			return func(Config) (gpu.Source, error) { return fake{name: name, devices: devices, closed: &closed}, nil }
		}
		better := open("better")
		if has {
			better = open("better", gpu.Info{UUID: "a"})
		}
		table = []source{{name: "better", open: better}, {name: "worse", instead: "better", open: open("worse", gpu.Info{UUID: "a"})}, {name: "other", open: open("other")}}
		s, err := Open("auto", config())
		if err != nil || len(s.GPUs) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		want := map[bool]string{true: "better", false: "worse"}[has]
		if got := s.GPUs[0].(fake).name; got != want || s.Unavailable["other"] == "" || !slices.Contains(closed, "other") {
			t.Errorf("better has one: %v: took %s, unavailable %v, closed %v", has, got, s.Unavailable, closed)
		}
	}
}
