package replay

import (
	"slices"
	"strings"
	"testing"
)

func compile(t *testing.T, s Spec, context int) *Plan {
	t.Helper()
	s, err := s.Complete([]string{"coding", "list"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(s, "corpus", context)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGrids(t *testing.T) {
	if n := len(compile(t, Quick(), 0).Cells); n != 6 {
		t.Errorf("the quick grid has %d cells, want 6", n)
	}
	full := compile(t, Full(), 0)
	if len(full.Cells) != 18 {
		t.Errorf("the full grid has %d cells, want 3 x 3 x 2", len(full.Cells))
	}
	for _, c := range Quick().Cells {
		if !slices.Contains(full.Cells, c) {
			t.Errorf("%s is in the quick grid and not in the full one", c)
		}
	}
	if s := Stress(4); s.Concurrency != 8 {
		t.Errorf("stress keeps %d in flight on 4 slots, want 8", s.Concurrency)
	}
}

func TestSameSeedSamePlan(t *testing.T) {
	spec := Full()
	spec.Trials = 3
	a, b := compile(t, spec, 131072), compile(t, spec, 131072)
	if a.Hash != b.Hash || len(a.Hash) != 64 {
		t.Errorf("hashes %s and %s", a.Hash, b.Hash)
	}
	for i := range a.Order {
		if !slices.Equal(a.Order[i], b.Order[i]) {
			t.Errorf("trial %d runs in another order", i)
		}
		if sorted := slices.Sorted(slices.Values(a.Order[i])); sorted[0] != 0 || sorted[17] != 17 {
			t.Errorf("trial %d does not run each cell once: %v", i, a.Order[i])
		}
	}
	if slices.Equal(a.Order[0], a.Order[1]) {
		t.Error("two trials run in the same order: cells are not shuffled within a trial")
	}
	k := Key{1, 2, 3}
	if a.PromptSeed(k) != b.PromptSeed(k) || a.PromptSeed(k) == a.PromptSeed(Key{1, 2, 4}) {
		t.Error("prompts' seeds do not follow from the key")
	}
}

func TestPlanHash(t *testing.T) {
	base := compile(t, Quick(), 131072).Hash
	seen := map[string]string{base: "quick"}
	for name, change := range map[string]func(*Spec){
		"seed": func(s *Spec) { s.Seed = 2 }, "cache": func(s *Spec) { s.Cache = Warm }, "length": func(s *Spec) { s.Length = NaturalLength },
		"concurrency": func(s *Spec) { s.Concurrency = 2 }, "trials": func(s *Spec) { s.Trials = 2 }, "requests": func(s *Spec) { s.Requests = 9 },
		"rate": func(s *Spec) { s.Rate = 2 }, "duration": func(s *Spec) { s.Duration = Seconds(1e9) }, "cells": func(s *Spec) { s.Cells = s.Cells[:5] },
	} {
		s := Quick()
		s.Cells = slices.Clone(s.Cells)
		change(&s)
		h := compile(t, s, 131072).Hash
		if other, ok := seen[h]; ok {
			t.Errorf("another %s has the hash of %s", name, other)
		}
		seen[h] = name
	}
	if h := compile(t, Quick(), 16384).Hash; h == base {
		t.Error("a server that drops a cell runs the same plan")
	}
	s, _ := Quick().Complete([]string{"coding", "list"})
	if p, _ := Compile(s, "other texts", 131072); p.Hash == base {
		t.Error("other texts are the same workload")
	}
}

func TestWarmPromptSeeds(t *testing.T) {
	s := Quick()
	s.Cache = Warm
	p := compile(t, s, 0)
	if p.PromptSeed(Key{0, 1, 0}) != p.PromptSeed(Key{3, 1, 7}) {
		t.Error("two warm requests of a cell differ")
	}
	if p.PromptSeed(Key{0, 1, 0}) == p.PromptSeed(Key{0, 2, 0}) {
		t.Error("two cells share a text")
	}
}

func TestDroppedCells(t *testing.T) {
	p := compile(t, Quick(), 10256)
	if len(p.Cells) != 5 || len(p.Dropped) != 1 || p.Dropped[0].Cell.PromptTokens != 100000 || !strings.Contains(p.Dropped[0].Reason, "100256") {
		t.Errorf("%d cells, dropped %+v", len(p.Cells), p.Dropped)
	}
	if p := compile(t, Quick(), 10255); len(p.Dropped) != 2 {
		t.Errorf("10k x 256 fits into 10255: %+v", p.Cells)
	}
	s, _ := Quick().Complete([]string{"coding", "list"})
	if _, err := Compile(s, "", 512); err == nil || !strings.Contains(err.Error(), "1016") {
		t.Errorf("nothing fits 512 tokens, and the smallest needs 1016: %v", err)
	}
}

func TestDuplicateCells(t *testing.T) {
	if p := compile(t, Spec{PromptSizes: Sizes{100, 100}, OutputTokens: Sizes{16}}, 0); len(p.Cells) != 1 {
		t.Errorf("%d cells", len(p.Cells))
	}
}
