//go:build !linux

package replay_test

import "time"

func exactly(d time.Duration) { time.Sleep(d) }
