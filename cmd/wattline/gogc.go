package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// With thousands of streams the heap may grow by half between collections: a stream then takes 30 KiB instead of 34
// (make bench-proxy), and collections stay rare because streams allocate little. A small heap may grow by 8 MiB, so
// that a few requests do not cost a collection every second.
const (
	minGOGC        = 50  // percent
	maxGOGC        = 400 // of a heap of 2 MiB, which is always reached
	smallHeapGrows = 8 << 20
)

// gogc is GOGC for a heap with this many live bytes.
func gogc(live uint64) int {
	return int(min(maxGOGC, max(minGOGC, 100*smallHeapGrows/max(live, 1))))
}

// adaptiveGOGC adapts GOGC to the live heap from now on. It does nothing where the environment sets GOGC.
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
	type token struct{ _ [32]byte } // large enough not to share its memory with other objects
	runtime.AddCleanup(new(token), func(was int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		now := was
		if live[0].Value.Kind() == metrics.KindUint64 {
			now = gogc(live[0].Value.Uint64())
		}
		if now < was*9/10 || now > was*11/10 { // a change stops the world for a moment
			debug.SetGCPercent(now)
			was = now
		}
		adaptAfterCollection(was)
	}, percent)
}
