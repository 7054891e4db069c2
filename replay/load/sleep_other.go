//go:build !linux

package load

import "time"

// exactSleep sleeps as exactly as the runtime's timers do.
func exactSleep(d time.Duration) { time.Sleep(d) }
