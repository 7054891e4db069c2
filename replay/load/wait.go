package load

import (
	"context"
	"time"
)

// finalStretch of a wait is slept in the kernel: Go's timers may be a millisecond late when a process is
// idle, as its poller counts in whole ones.
const finalStretch = 2 * time.Millisecond

// waitUntil sleeps until a moment, to within some hundred microseconds.
func (r *Runner) waitUntil(ctx context.Context, t time.Time) error {
	if d := time.Until(t) - finalStretch; d > 0 {
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
	if d := time.Until(t); d > 0 {
		r.cfg.Sleep(d)
	}
	return ctx.Err()
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
