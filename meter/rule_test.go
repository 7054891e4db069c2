package meter_test

import (
	"os"
	"testing"

	"wattline/meter/metertest"
)

// TestEventSequences: whatever events follow each other in whatever frames, the meter finds what a slow second reader
// finds that applies the rules of DEFINITIONS.md to the whole reply.
func TestEventSequences(t *testing.T) { eventSequences(t, 4_000) }

func TestSoakEventSequences(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("part of make soak")
	}
	eventSequences(t, 300_000)
}

func eventSequences(t *testing.T, n uint64) {
	for seed := range n {
		r := metertest.Generate(seed, 1+int(seed%12))
		compareFacts(t, r)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func compareFacts(t *testing.T, r metertest.Reply) {
	t.Helper()
	got, rec := metertest.Read(r)
	if want := metertest.Reference(r); got != want {
		t.Errorf("%s %q\nthe meter:     %+v\nthe reference: %+v\nerror %q", r.Path, r.Body, got, want, rec.Error)
	}
}

// FuzzReaders mutates what a corpus and a generator begin with.
func FuzzReaders(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, byte(9))
	}
	f.Fuzz(func(t *testing.T, seed uint64, events byte) {
		compareFacts(t, metertest.Generate(seed, int(events%40)))
	})
}

// TestCorpus: replies of every kind that was once read wrongly.
func TestCorpus(t *testing.T) {
	for _, c := range metertest.Corpus() {
		got, rec := metertest.Read(c.Reply)
		if told := metertest.Told(got, rec); told != c.Want {
			t.Errorf("%s: %s: %s, want %s (%s)", c.Line, c.Name, told, c.Want, rec.Error)
		}
		if want := metertest.Reference(c.Reply); got != want {
			t.Errorf("%s: %s: the meter %+v, the reference %+v", c.Line, c.Name, got, want)
		}
	}
	for _, c := range metertest.Odd() {
		if told := metertest.Told(metertest.Read(c.Reply)); told != c.Want {
			t.Errorf("%s: %s: %s, want %s", c.Line, c.Name, told, c.Want)
		}
	}
}
