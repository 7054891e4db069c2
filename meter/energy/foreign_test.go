package energy_test

import (
	"testing"

	"wattline/meter/energy"
)

// Another process computes beside lone requests, for a part of one or for several. Where nobody tells of it, the error bars
// hold the truth and nothing is called measured; where it is told, the requests are charged what they cost.
func TestForeignProcess(t *testing.T) {
	for _, told := range []bool{false, true} {
		for k, seconds := range []float64{0.2, 0.5, 2, 5, 16} {
			s := newScene(uint64(40+k), false)
			s.foreignW, s.foreignFrom, s.foreignTo = 430, s.now+0.7, s.now+0.7+seconds
			s.tell(energy.Event{Kind: energy.Contended, On: told}, s.foreignFrom)
			s.tell(energy.Event{Kind: energy.Contended}, s.foreignTo+0.5)
			var beside, clean []*job
			for end := s.foreignTo; s.now < end; {
				j := s.job(0.2, 1000, 250)
				beside = append(beside, j)
				s.play(j)
			}
			for range 3 {
				j := s.job(0.2, 1000, 250)
				clean = append(clean, j)
				s.play(j)
			}
			got := s.settle(t)
			for _, j := range beside {
				x := got[j.key]
				if covered(t, "beside another process", x, j); x.Quality == energy.Measured {
					t.Errorf("%v s, told %v: called measured: %.1f ± %.1f J, %.1f in truth", seconds, told, float64(x.TotalUJ)/1e6, float64(x.SigmaUJ)/1e6, j.trueJ())
				}
				if told {
					near(t, "beside a process that is known", x.ActiveUJ, j.activeJ, 0.15)
				}
			}
			for k, j := range clean {
				x := got[j.key]
				if covered(t, "after it", x, j); k == 0 {
					continue // an idle draw that holds the process's is given up only now
				}
				if near(t, "after it", x.ActiveUJ, j.activeJ, 0.03); x.Quality != energy.Measured {
					t.Errorf("%v s, told %v: a clean request is %v, %.1f ± %.1f J", seconds, told, x.Quality, float64(x.TotalUJ)/1e6, float64(x.SigmaUJ)/1e6)
				}
			}
		}
	}
}
