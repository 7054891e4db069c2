package energy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"wattline/meter/energy/recording"
)

// member is one request of a set that is run in all coalitions: when it is sent, and its sizes.
type member struct {
	delay          float64
	prompt, output int
	slot           int
}

// h100Like is a card with numbers near those measured, with the non-additive effects that the ledger
// does not model.
func h100Like(unified bool) physics {
	return physics{
		unified: unified, read: 0.44, readPower: 1, token: 0.32, context: 0.045, ctxPower: 0.85,
		prompt: 0.033, position: 0.0048, posPower: 1.1, duringPrefill: 0.9, saturate: 0.05, fullW: 450, droop: 0.03,
		idleW: 118, leak: 0.7, rise: 0.025, warm: 0.02,
		promptRate: 7800, slowdown: 0.03, stepTime: 0.008, perSeq: 0.12, batch: 4096,
	}
}

// playCoalitions runs every coalition of the set, as gpu-host's coalitions.py does, and returns what the
// tool makes of it.
func playCoalitions(t *testing.T, seed uint64, p physics, set map[string]member, rounds int, slots bool) []recording.Share {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	s := &server{p: p, slots: 4, rng: r}
	s.idle(3)
	var names []string
	for n := 1; n < 16; n++ {
		var name string
		for k, c := range "WXYZ" {
			if n>>k&1 == 1 {
				name += string(c)
			}
		}
		names = append(names, name)
	}
	traffic := &recording.Traffic{}
	mark := func(name string) {
		traffic.Marks = append(traffic.Marks, recording.Mark{Name: name, At: s.ns(s.now)})
	}
	var key uint64
	var jobs []*job
	for round := range rounds {
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			tag := fmt.Sprintf("%s/%d", name, round)
			mark(tag + ":pre")
			s.idle(1.6)
			mark(tag)
			var these []*job
			for _, c := range name {
				m := set[string(c)]
				key++
				j := &job{key: key, arrive: s.now + m.delay, prompt: m.prompt, output: m.output, ratio: 4, sticky: m.slot + 1}
				these = append(these, j)
				traffic.Requests = append(traffic.Requests, recording.Request{Tag: tag, Who: string(c)})
			}
			jobs = append(jobs, these...)
			byArrival := slices.Clone(these)
			slices.SortFunc(byArrival, func(a, b *job) int { return int(a.arrive*1e9) - int(b.arrive*1e9) })
			s.run(byArrival, 0.002)
			mark(tag + ":post")
			s.idle(1.2)
		}
	}
	mark("end")
	for i, j := range jobs {
		traffic.Requests[i].Send, traffic.Requests[i].End = s.ns(j.arrive), s.ns(j.end)
	}
	if !slots {
		for i := range s.events {
			s.events[i].SlotKnown = false
		}
	}
	got, n := play(seed, s, profiles()[0])
	shares, err := recording.Coalitions(&recording.Device{Readings: n.looks}, traffic, inOrder(got, jobs))
	if err != nil {
		t.Fatal(err)
	}
	return shares
}

// logShares prints the table that the tool is for.
func logShares(t *testing.T, shares []recording.Share) {
	for i := range shares {
		s := &shares[i]
		t.Logf("%-4s %s  true %7.1f ± %4.1f J  phase %7.1f (%+5.1f %%)  worst run %+5.1f %%  time %+6.1f %%  token %+6.1f %%", s.Coalition, s.Who,
			s.True, s.Error, s.Phase, 100*s.Off(s.Phase), 100*s.Off(s.WorstRun), 100*s.Off(s.Time), 100*s.Off(s.Token))
	}
	t.Logf("rms: phase %.1f %%, time %.1f %%, token %.1f %%", 100*phaseRMS(shares),
		100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Time }), 100*recording.RMS(shares, func(s *recording.Share) float64 { return s.Token }))
}

func phaseRMS(shares []recording.Share) float64 {
	return recording.RMS(shares, func(s *recording.Share) float64 { return s.Phase })
}

func TestSimulatedCoalitions(t *testing.T) {
	sets := map[string]map[string]member{
		"mixed":  {"W": {0, 300, 256, 0}, "X": {0.4, 8000, 32, 2}, "Y": {0.3, 1500, 384, 1}, "Z": {0.8, 3000, 128, 3}},
		"short":  {"W": {0, 100, 64, 3}, "X": {0.05, 600, 16, 1}, "Y": {0.1, 2000, 40, 0}, "Z": {0.2, 200, 200, 2}},
		"prompt": {"W": {0, 20000, 16, 1}, "X": {0.5, 4000, 300, 2}, "Y": {0.2, 500, 500, 0}, "Z": {1.5, 9000, 64, 3}},
		"even":   {"W": {0, 500, 300, 0}, "X": {0.6, 1200, 200, 3}, "Y": {0.2, 900, 250, 1}, "Z": {1, 2500, 300, 2}},
	}
	for name, set := range sets {
		for _, unified := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s unified %v", name, unified), func(t *testing.T) {
				shares := playCoalitions(t, 3, h100Like(unified), set, 3, true)
				checkShares(t, shares)
				score(t, fmt.Sprintf("sim-%s-unified-%v/rms", name, unified), 100*phaseRMS(shares))
			})
		}
		t.Run(name+" slots unknown", func(t *testing.T) {
			shares := playCoalitions(t, 3, h100Like(false), set, 3, false)
			logShares(t, shares)
			score(t, "sim-"+name+"-slots-unknown/rms", 100*phaseRMS(shares))
		})
	}
}

// checkShares fails where the shares are worse than the release demands of a real card.
func checkShares(t *testing.T, shares []recording.Share) {
	logShares(t, shares)
	for _, bad := range recording.Exceeding(shares) {
		t.Error(bad)
	}
}
