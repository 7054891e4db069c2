package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 200, 8 << 20: 100, 16 << 20: 50, 1 << 30: 50} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB live: %d, want %d", live>>20, got, want)
		}
	}
}

// TestFrugalFollowsTheHeap: with a large heap collections come after half of it.
func TestFrugalFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	frugal()
	large := make([]byte, 64<<20)
	percent := 0
	for range 100 { // what follows a collection runs some time behind it
		runtime.GC()
		percent = debug.SetGCPercent(leastGrowth)
		debug.SetGCPercent(percent)
		if percent == leastGrowth {
			break
		}
	}
	runtime.KeepAlive(large)
	if percent != leastGrowth {
		t.Errorf("GOGC is %d with 64 MiB live", percent)
	}
}
