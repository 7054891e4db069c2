package gpu_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// TestRecordAndReplay: what a sampler has recorded can be read, and a sampler that is given the
// recording as a device finds the same energy in it.
func TestRecordAndReplay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rec")
	var truth, from, to float64
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		src := sim.New(sim.Config{Clock: clock})
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		rec, err := gpu.NewRecorder(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, err := gpu.Start(gpu.Config{Clock: clock, Targets: []gpu.Target{{Source: src, Info: list[0]}}, Recorders: []*gpu.Recorder{rec}})
		if err != nil {
			t.Fatal(err)
		}
		start := clock.Now()
		for _, e := range schedule(rand.New(rand.NewPCG(9, 9)), start+1e9, 40) {
			time.Sleep(time.Duration(e.At - clock.Now()))
			src.Observe(e)
			s.Observe(e)
		}
		time.Sleep(5 * time.Second)
		s.Stop()
		if err := rec.Close(); err != nil {
			t.Error(err)
		}
		if err := rec.Close(); err != nil {
			t.Error("closing again:", err)
		}
		from, to = float64(start+3e9), float64(start+38e9)
		truth = src.TruthUj(int64(from), int64(to))
	})
	played, err := gpu.ReadRecording(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(played.Buffer) < 1900 || len(played.Reads) < 60 {
		t.Errorf("%d samples and %d reads of 40 s", len(played.Buffer), len(played.Reads))
	}
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		begin, end := played.Span()
		p := &gpu.Replay{Recording: played, Clock: clock, Start: clock.Now()}
		shift := p.Start - begin
		trace := gpu.NewTrace(time.Hour)
		list, err := p.List()
		if err != nil {
			t.Fatal(err)
		}
		s, err := gpu.Start(gpu.Config{Clock: clock, Targets: []gpu.Target{{Source: p, Info: list[0]}}, Handle: func(b *gpu.Batch) {
			if b.Ended == "" {
				trace.Add(b)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(end - begin - 1e9))
		s.Stop()
		e := trace.Energy(int64(from)+shift, int64(to)+shift)
		t.Logf("truth %.1f J, from the recording %.1f J ± %.1f", truth/1e6, float64(e.Uj)/1e6, float64(e.ErrorUj)/1e6)
		if off := math.Abs(float64(e.Uj) - truth); !e.OK || off > float64(e.ErrorUj) || off > 0.01*truth {
			t.Errorf("%+v, truth %.0f", e, truth)
		}
	})
	if _, err := gpu.NewRecorder(dir); err == nil || !strings.Contains(err.Error(), "empty folder") {
		t.Errorf("recording over a recording: %v", err)
	}
}

const header = "t_before_ns,t_after_ns,energy_mj,power_avg_mw,power_instant_mw,temp_c,mem_used,sm_clock_mhz,clock_event_reasons\n"

// TestReadRecording: fields may be empty, later columns are ignored, and what is wrong is named with
// its line.
func TestReadRecording(t *testing.T) {
	read := func(counter, samples string) (*gpu.Recording, error) {
		dir := fstest.MapFS{"counter.csv": {Data: []byte(counter)}}
		if samples != "" {
			dir["ring.csv"] = &fstest.MapFile{Data: []byte(samples)}
		}
		return gpu.ReadRecording(dir)
	}
	rec, err := read(strings.TrimSuffix(header, "\n")+",volts\n1,2,3,,5,,,,,9\n4,4,,6,,37,,1980,4,9\n", "t_us,power_mw\n1,100\n2,200\n")
	if err != nil || len(rec.Reads) != 2 || len(rec.Buffer) != 2 {
		t.Fatalf("%+v, %v", rec, err)
	}
	a, b := rec.Reads[0], rec.Reads[1]
	if !a.OK || a.Uj != 3000 || a.AverageMw.Valid || a.InstantMw != meter.Some(5) || b.OK || b.AverageMw != meter.Some(6) || b.TempC != meter.Some(37) || b.Throttle != meter.Some(4) {
		t.Errorf("%+v and %+v", a, b)
	}
	if rec.Buffer[1] != (gpu.Sample{At: 2000, Mw: 200}) {
		t.Errorf("%+v", rec.Buffer[1])
	}
	if rec, err := read(header+"1,2,3,,,,,,\n", ""); err != nil || len(rec.Buffer) != 0 {
		t.Errorf("without samples: %v", err)
	}
	for name, x := range map[string]struct{ counter, samples, word string }{
		"no lines":  {header, "", "no lines"},
		"header":    {"time,power\n", "", "does not begin"},
		"no number": {header + "1,2,x,,,,,,\n", "", "line 2: field 3"},
		"too few":   {header + "1,2,3\n", "", "line 2: 3 fields"},
		"no time":   {header + ",2,3,,,,,,\n", "", "line 2: no time"},
		"back":      {header + "5,6,3,,,,,,\n1,2,3,,,,,,\n", "", "line 3: time runs backwards"},
		"samples":   {header + "1,2,3,,,,,,\n", "t_us,power_mw\n3,1\n2,1\n", "ring.csv line 3"},
		"no power":  {header + "1,2,3,,,,,,\n", "t_us,power_mw\n3,\n", "empty field"},
	} {
		if _, err := read(x.counter, x.samples); err == nil || !strings.Contains(err.Error(), x.word) {
			t.Errorf("%s: %v, want %q", name, err, x.word)
		}
	}
	if _, err := gpu.ReadRecording(fstest.MapFS{}); err == nil {
		t.Error("an empty folder is no recording")
	}
}

func FuzzReadRecording(f *testing.F) {
	f.Add([]byte(header+"1,2,3,4,5,6,7,8,9\n"), []byte("t_us,power_mw\n1,2\n"))
	f.Fuzz(func(t *testing.T, counter, samples []byte) {
		rec, err := gpu.ReadRecording(fstest.MapFS{"counter.csv": {Data: counter}, "ring.csv": {Data: samples}})
		if err != nil {
			return
		}
		if from, to := rec.Span(); from > to && bytes.Count(counter, []byte("\n")) > 2 && len(rec.Reads) > 0 && rec.Reads[0].Before > rec.Reads[len(rec.Reads)-1].Before {
			t.Errorf("a recording from %d to %d", from, to)
		}
	})
}
