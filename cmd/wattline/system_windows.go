package main

import "os"

// stopSignals: Windows has none; os.Kill is never delivered, and an empty list would mean all signals.
func stopSignals() []os.Signal { return []os.Signal{os.Kill} }
