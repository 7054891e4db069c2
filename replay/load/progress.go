package load

import (
	"fmt"
	"time"

	"wattline/replay"
)

const progressEvery = time.Second

// ClearLine is written before another line where a progress line may stand.
const ClearLine = "\r\x1b[K"

// progress draws a line over itself once a second until the returned function is called.
func (r *Runner) progress() (stop func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with quit; stop waits for it
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		last, lastAt := r.cfg.Sender.Events(), time.Now()
		for {
			select {
			case <-quit:
				fmt.Fprint(r.cfg.Progress, ClearLine)
				return
			case now := <-tick.C:
				events := r.cfg.Sender.Events()
				fmt.Fprint(r.cfg.Progress, ClearLine, r.line(float64(events-last)/now.Sub(lastAt).Seconds()))
				last, lastAt = events, now
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

// line is the progress line. It counts stream events, which are a little fewer than tokens.
func (r *Runner) line(perSecond float64) string {
	watts := ""
	if r.cfg.Watts != nil {
		if w := r.cfg.Watts(); w.Valid {
			watts = fmt.Sprintf(", %.0f W", w.V)
		}
	}
	eta := ""
	if left := r.left(); left > 0 {
		eta = ", about " + round(left) + " left"
	}
	return fmt.Sprintf("%d in flight, %d done, %.0f tokens/s%s%s", r.inFlight.Load(), r.done.Load(), perSecond, watts, eta)
}

// left predicts the remaining time, from the cells that ran and the requests of the one that runs.
func (r *Runner) left() time.Duration {
	r.mu.Lock()
	ran := len(r.spans)
	inCell, since := 0, r.atSince
	for _, e := range r.exchanges {
		if e.Trial == r.at.Trial && e.Key.Cell == r.at.Cell {
			inCell++
		}
	}
	skipped := map[replay.Cell]bool{}
	for _, d := range r.skipped {
		skipped[d.Cell] = true
	}
	r.mu.Unlock()
	var left time.Duration
	n := 0
	for _, order := range r.cfg.Plan.Order {
		for _, cell := range order {
			c := r.cfg.Plan.Cells[cell]
			if skipped[c] {
				continue
			}
			n++
			switch {
			case n == ran+1:
				left += time.Duration(float64(r.predict(c)) * r.toDo(inCell, since))
			case n > ran:
				left += r.predict(c)
			}
		}
	}
	return left
}

// toDo is the remaining share of the running cell.
func (r *Runner) toDo(inCell int, since time.Time) float64 {
	s := &r.cfg.Plan.Spec
	if s.Duration > 0 {
		return max(0, 1-time.Since(since).Seconds()/r.share().Seconds())
	}
	return max(0, 1-float64(inCell)/float64(s.Requests))
}
