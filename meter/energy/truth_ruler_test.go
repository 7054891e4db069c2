package energy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wattline/meter/energy"
	"wattline/meter/energy/recording"
)

var rulerDir = flag.String("ruler", "", "write recordings of simulated cards with their truth to this folder (RULER.md)")

// TestWriteRuler writes a recording a sensor profile, of mixes of up to eight requests at once on a drawn card.
func TestWriteRuler(t *testing.T) {
	if *rulerDir == "" {
		t.Skip("writes files with -ruler DIR only")
	}
	for k, p := range profiles() {
		r := rand.New(rand.NewPCG(uint64(k)+5, 79))
		s := &server{p: drawPhysics(r), slots: 8, rng: r}
		s.idle(4)
		var key uint64
		var jobs []*job
		run, idleW := map[uint64]string{}, map[uint64]float64{}
		for m := range 6 {
			mix := drawMix(r, &key, 8, s.slots, s.now+0.05)
			for _, j := range mix {
				run[j.key], idleW[j.key] = fmt.Sprintf("mix%d", m), s.p.idleW+s.p.leak*s.board
			}
			s.run(mix, 2)
			jobs = append(jobs, mix...)
		}
		n := newSensors(rand.New(rand.NewPCG(uint64(k), 80)), s)
		p.feed(n)
		dir := filepath.Join(*rulerDir, "sim-"+strings.ReplaceAll(p.name, " ", "-"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeSensors(t, dir, n)
		place := writeRequests(t, dir, s)
		opening, err := json.MarshalIndent(recording.Opening{Device: p.name, Simulated: true, Config: p.cfg, Coefficients: []energy.Coefficients{}}, "", " ")
		write(t, dir, "device.json", string(opening), err)
		var truth []recording.True
		for _, j := range jobs {
			if run[j.key] != "mix0" { // the ledger learns
				truth = append(truth, recording.True{Request: place[j.key], Run: run[j.key], Joules: j.activeJ, IdleW: idleW[j.key]})
			}
		}
		var text strings.Builder
		write(t, dir, "truth.csv", "", recording.WriteTruth(&text, truth))
		write(t, dir, "truth.csv", text.String(), nil)
	}
}

func write(t *testing.T, dir, name, text string, err error) {
	t.Helper()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const simulatedEpoch = 1_700_000_000_000_000_000 // stamps of a simulation begin at 0, those of a recording do not

func writeSensors(t *testing.T, dir string, n *sensors) {
	t.Helper()
	var c, ring strings.Builder
	c.WriteString("t_before_ns,t_after_ns,energy_mj,power_avg_mw,power_instant_mw,temp_c,mem_used,sm_clock_mhz,clock_event_reasons\n")
	for _, r := range n.looks {
		energy, average := "", ""
		if r.HasEnergy {
			energy = fmt.Sprint(r.EnergyUJ / 1000)
		}
		if r.HasAverage {
			average = fmt.Sprint(r.AverageMW)
		}
		fmt.Fprintf(&c, "%d,%d,%s,%s,,,,,\n", simulatedEpoch+r.Before/1000*1000, simulatedEpoch+r.After/1000*1000, energy, average)
	}
	write(t, dir, "counter.csv", c.String(), nil)
	if len(n.samples) == 0 {
		return
	}
	ring.WriteString("t_us,power_mw\n")
	for _, s := range n.samples {
		fmt.Fprintf(&ring, "%d,%d\n", (simulatedEpoch+s.At)/1000, s.MW)
	}
	write(t, dir, "ring.csv", ring.String(), nil)
}

// writeRequests writes requests.jsonl and returns each request's place in it.
func writeRequests(t *testing.T, dir string, s *server) map[uint64]int {
	t.Helper()
	place := map[uint64]int{}
	var all []*recording.Request
	last := map[uint64]int64{}
	at := func(e energy.Event) int64 { return (simulatedEpoch + e.At) / 1000 * 1000 }
	for _, e := range s.events {
		if e.Kind == energy.Arrive {
			place[e.Request] = len(all)
			all = append(all, &recording.Request{Tag: fmt.Sprint(e.Request), Words: e.PromptHint, Send: at(e)})
			continue
		}
		if e.Request == 0 {
			continue
		}
		q := all[place[e.Request]]
		now := at(e)
		switch e.Kind {
		case energy.SlotStart:
			slot := e.Slot
			q.Header, q.Slot = &now, &slot
		case energy.FirstToken:
			q.Event0, q.Event1, q.Last = &now, &now, &now
			q.GapsUS, last[e.Request] = []int64{0}, now
		case energy.Decode:
			q.GapsUS = append(q.GapsUS, (now-last[e.Request])/1000)
			q.Last, last[e.Request] = &now, now
		case energy.End:
			outputs := int64(len(q.GapsUS))
			q.End, q.Outputs, q.Max = now, &outputs, e.Counts.OutputTokens
			q.Timings = &recording.Timings{
				PromptN: e.Counts.PromptTokens, PredictedN: e.Counts.OutputTokens,
				PromptMS: e.Counts.Prefill.Seconds() * 1e3, PredictedMS: e.Counts.Decode.Seconds() * 1e3,
			}
		}
	}
	var text strings.Builder
	for _, q := range all {
		line, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	write(t, dir, "requests.jsonl", text.String(), nil)
	return place
}
