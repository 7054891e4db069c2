package attribution

import "time"

// When the goroutine processes the buffer. A device's reading is what can make joules final, and comes once or twice a
// second; events wait for it. So an idle machine costs nothing here, and a stream costs no more passes than readings.
const (
	defaultPace = 250 * time.Millisecond // from a reading to a pass; above the ledger's slack of 50 ms
	wakeNowSize = 2048                   // inputs in the buffer that are processed at once
	maxPassGap  = time.Second            // between two passes while a row waits for its joules
)

// wakes reports whether an input wakes the goroutine; size is the buffer's with it.
func (in *input) wakes(size int) bool {
	return in.reading != nil || size == wakeNowSize || in.first
}

// signal wakes the goroutine, at once if the buffer is large.
func (s *settler) signal(size int) {
	c := s.wake
	if size >= wakeNowSize {
		c = s.wakeNow
	}
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}

// run feeds the ledgers until Stop.
func (s *settler) run() {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		timer.Stop()
		if s.open.Load() > 0 {
			timer.Reset(maxPassGap)
		}
		select {
		case <-s.wake:
			timer.Reset(s.cfg.Pace)
			select {
			case <-timer.C:
			case <-s.wakeNow:
			case <-s.quit:
			}
		case <-s.wakeNow:
		case <-timer.C:
		case <-s.quit:
		}
		select {
		case <-s.quit:
			s.finish()
			return
		default:
			s.process(s.cfg.Now())
		}
	}
}
