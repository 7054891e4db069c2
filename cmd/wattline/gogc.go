package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// A large heap may grow by half between collections: with thousands of streams each takes 30 KiB instead of 34 (make
// bench-proxy), and collections stay rare because streams allocate little. A small heap may grow by 8 MiB, so that a
// few requests do not cause a collection every second.
const (
	minGOGC        = 50  // percent
	maxGOGC        = 400 // percent; reached with 2 MiB live
	smallHeapGrows = 8 << 20
)

// gogc returns GOGC for a heap with this many live bytes.
func gogc(live uint64) int {
	return int(min(maxGOGC, max(minGOGC, 100*smallHeapGrows/max(live, 1))))
}

// adaptiveGOGC adapts GOGC to the live heap from now on. It does nothing if the environment sets GOGC.
func adaptiveGOGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gogc(0))
	adaptAfterCollection(gogc(0))
}

// adaptAfterCollection sets GOGC after each collection. The cleanup of an unreachable object runs after a collection
// and registers the next one.
func adaptAfterCollection(percent int) {
	type token struct{ _ [32]byte } // too large for the allocator to put several into one block
	runtime.AddCleanup(new(token), func(was int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		now := was
		if live[0].Value.Kind() == metrics.KindUint64 {
			now = gogc(live[0].Value.Uint64())
		}
		if now < was*9/10 || now > was*11/10 { // SetGCPercent stops the world
			debug.SetGCPercent(now)
			was = now
		}
		adaptAfterCollection(was)
	}, percent)
}
