package attribution

import "time"

// When the goroutine looks at the buffer: never on the clock alone. A device's reading is what can make joules
// final, and comes once or twice a second; what else it has to do waits for that. So a machine that does
// nothing costs nothing here, and one stream costs no more passes than readings.
const (
	defaultPace = 250 * time.Millisecond // a pass waits so long for company; above the ledger's slack, 50 ms
	crowd       = 2048                   // steps in the buffer that are taken over at once
	overdue     = time.Second            // the longest between two passes while a row waits for its joules
)

// calls says whether a step is a reason to wake the goroutine; size is that of the buffer with it, open how many
// rows wait.
func (st *step) calls(size int, open int64) bool {
	return st.reading != nil || size == crowd || st.rec != nil && open <= 1
}

// call wakes the goroutine; to a crowd it comes at once.
func (s *settler) call(size int) {
	c := s.called
	if size >= crowd {
		c = s.crowded
	}
	select {
	case c <- struct{}{}:
	default: // it was called already
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
			timer.Reset(overdue)
		}
		select {
		case <-s.called:
			timer.Reset(s.cfg.Pace)
			select {
			case <-timer.C:
			case <-s.crowded:
			case <-s.quit:
			}
		case <-s.crowded:
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
