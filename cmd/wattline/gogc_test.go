package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGOGC(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 200, 8 << 20: 100, 16 << 20: 50, 1 << 30: 50} {
		if got := gogc(live); got != want {
			t.Errorf("%d MiB live: %d, want %d", live>>20, got, want)
		}
	}
}

// TestAdaptiveGOGC: a large heap may grow by half until the next collection.
func TestAdaptiveGOGC(t *testing.T) {
	t.Setenv("GOGC", "")
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	adaptiveGOGC()
	large := make([]byte, 64<<20)
	percent := 0
	for range 100 { // a cleanup runs some time after its collection
		runtime.GC()
		percent = debug.SetGCPercent(minGOGC)
		debug.SetGCPercent(percent)
		if percent == minGOGC {
			break
		}
	}
	runtime.KeepAlive(large)
	if percent != minGOGC {
		t.Errorf("GOGC is %d with 64 MiB live", percent)
	}
}
