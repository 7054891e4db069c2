package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How far the heap may grow between collections: thousands of streams by half, which makes them 30 KiB each instead
// of 34 (make bench-proxy), and they allocate next to nothing that would make collections frequent; a small heap by
// some megabytes, so that a few requests do not cost a collection each second.
const (
	leastGrowth   = 50 // percent
	smallHeapGrow = 8 << 20
)

// gcPercent is GOGC for a heap of which so many bytes live.
func gcPercent(live uint64) int {
	const largest = 400 // of a heap of 2 MiB: there are always some
	return int(min(largest, max(leastGrowth, 100*smallHeapGrow/max(live, 1))))
}

// frugal keeps the heap's growth at that. GOGC decides where it is set.
func frugal() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent(0))
	tune(0)
}

// tune looks at the heap after the next collection, and after each one behind it.
func tune(percent int) {
	type token struct{ _ [32]byte } // not so small that it would share its memory
	runtime.AddCleanup(new(token), func(was int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		now := was
		if live[0].Value.Kind() == metrics.KindUint64 {
			now = gcPercent(live[0].Value.Uint64())
		}
		if now < was*9/10 || now > was*11/10 { // a change stops the world for a moment
			debug.SetGCPercent(now)
			was = now
		}
		tune(was)
	}, percent)
}
