package main

import (
	"testing"
	"time"
)

// TestKeepNoPrompts: --keep-prompts 0 empties the stored fingerprints; a store's zero would keep them a week.
func TestKeepNoPrompts(t *testing.T) {
	for keep, want := range map[time.Duration]time.Duration{0: time.Nanosecond, time.Hour: time.Hour} {
		f := retentionFlags{KeepPrompts: keep}
		if got := f.limits(false).WithDefaults().Prompts; got != want {
			t.Errorf("--keep-prompts %v: %v, want %v", keep, got, want)
		}
	}
}
