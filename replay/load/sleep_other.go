//go:build !linux

package load

import "time"

// PreciseSleep is as precise as Go's timers on this system.
func PreciseSleep(d time.Duration) { time.Sleep(d) }
