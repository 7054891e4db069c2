package energy_test

import (
	"math"
	"testing"

	"wattline/meter/energy"
)

// covered fails unless the error bar of the active joules holds the truth.
func covered(t *testing.T, what string, x energy.Result, j *job) {
	t.Helper()
	if off := float64(x.ActiveUJ)/1e6 - j.activeJ; math.Abs(off) > 1.96*float64(x.ActiveSigmaUJ)/1e6 || x.SigmaUJ == 0 {
		t.Errorf("%s: %.1f ± %.1f J, %.1f in truth", what, float64(x.ActiveUJ)/1e6, float64(x.ActiveSigmaUJ)/1e6, j.activeJ)
	}
}

// Clients leave unstreamed requests, one while it decodes and one in the queue, and the server runs both to their end.
// Looks at its slots tell; without them the error bars do.
func TestAbandonedRequest(t *testing.T) {
	for _, follow := range []bool{true, false} {
		s := newScene(11, false)
		s.follow = follow
		gone, queued := s.job(0, 900, 400), s.job(0.3, 1200, 300)
		gone.late, gone.runsOn, gone.leave = true, true, 0.8
		queued.late, queued.runsOn, queued.leave = true, true, 0.8
		stay := []*job{s.job(0.05, 700, 500), s.job(0.1, 800, 150), s.job(0.15, 900, 500), s.job(1.5, 600, 200)}
		s.play(gone, stay[0], stay[1], stay[2], queued, stay[3])
		s.idle(60)
		got := s.settle(t)
		for name, j := range map[string]*job{"who left while it decoded": gone, "who left in the queue": queued} {
			x := got[j.key]
			if follow {
				near(t, name, x.ActiveUJ, j.activeJ, 0.15)
			} else {
				covered(t, name, x, j)
			}
			if x.Quality != energy.Estimated && x.Quality != energy.BelowResolution || !x.Abandoned {
				t.Errorf("%s is called %v, abandoned %v", name, x.Quality, x.Abandoned)
			}
		}
		for _, j := range stay {
			if covered(t, "a neighbour", got[j.key], j); follow {
				near(t, "a neighbour", got[j.key].ActiveUJ, j.activeJ, 0.08)
			}
			if got[j.key].Abandoned {
				t.Error("a neighbour is called abandoned")
			}
		}
	}
}

// A client leaves in prefill, and the server computes the batch to its end: a look shows then that the slot is idle.
func TestLeftInPrefill(t *testing.T) {
	s := newScene(17, false)
	s.follow = true
	streams := []*job{s.job(0, 700, 300), s.job(0.05, 700, 400), s.job(0.1, 700, 500)}
	gone := s.job(0.5, 6000, 200)
	gone.leave = 0.3
	s.play(streams[0], streams[1], streams[2], gone, s.job(0.8, 3000, 200))
	got := s.settle(t)
	covered(t, "who left in prefill", got[gone.key], gone)
	near(t, "who left in prefill", got[gone.key].ActiveUJ, gone.activeJ, 0.1)
	for _, j := range streams {
		near(t, "a stream", got[j.key].ActiveUJ, j.activeJ, 0.05)
	}
}

// An unstreamed reply without times that waited behind streams: it did not decode while others held every slot, and its
// tokens are worked back from its end at its neighbours' pace.
func TestUntimedReplyBehindStreams(t *testing.T) {
	for _, follow := range []bool{true, false} {
		s := newScene(12, true)
		s.follow = follow
		late := s.job(0.2, 600, 150)
		late.late, late.untimed = true, true
		streams := []*job{s.job(0, 700, 500), s.job(0.05, 700, 500), s.job(0.1, 700, 300), s.job(0.15, 700, 500)}
		s.play(streams[0], streams[1], streams[2], streams[3], late)
		got := s.settle(t)
		near(t, "the untimed", got[late.key].ActiveUJ, late.activeJ, 0.1)
		for _, j := range streams {
			near(t, "a stream", got[j.key].ActiveUJ, j.activeJ, 0.05)
		}
	}
}

// Nothing is known of an unstreamed reply but its end: it is presumed to decode once a slot is free, its neighbours' error
// bars know that this may be wrong.
func TestUnknownReplyBehindStreams(t *testing.T) {
	s := newScene(13, true)
	late := s.job(0.2, 600, 150)
	late.late, late.untimed = true, true
	streams := []*job{s.job(0, 700, 500), s.job(0.05, 700, 400), s.job(0.1, 700, 300), s.job(0.15, 700, 600)}
	s.play(streams[0], streams[1], streams[2], streams[3], late)
	for i := range s.events {
		if e := &s.events[i]; e.Request == late.key && e.Kind == energy.End {
			e.Counts = energy.Counts{}
		}
	}
	got := s.settle(t)
	covered(t, "the unknown", got[late.key], late)
	near(t, "the unknown", got[late.key].ActiveUJ, late.activeJ, 0.3)
	for _, j := range streams {
		covered(t, "a stream", got[j.key], j)
		near(t, "a stream", got[j.key].ActiveUJ, j.activeJ, 0.06)
	}
}

// A stream that shows nothing any more pays for ten seconds at most, which its and its neighbour's error bars know.
func TestHungStream(t *testing.T) {
	s := newScene(14, true)
	hung, healthy := s.job(0, 700, 500), s.job(0.1, 700, 4000)
	hung.hangs = 60
	s.play(hung, healthy)
	got := s.settle(t)
	covered(t, "the hung", got[hung.key], hung)
	covered(t, "its neighbour", got[healthy.key], healthy)
	near(t, "its neighbour", got[healthy.key].ActiveUJ, healthy.activeJ, 0.15)
}

// A look tells that the server has ended a stream: its neighbour pays for itself from then on.
func TestHungStreamSeen(t *testing.T) {
	s := newScene(15, true)
	hung, healthy := s.job(0, 700, 500), s.job(0.1, 700, 1500)
	hung.hangs = 60
	s.play(hung, healthy)
	s.tell(energy.Event{Kind: energy.SlotIdle, Request: hung.key}, hung.end+0.4)
	got := s.settle(t)
	near(t, "its neighbour", got[healthy.key].ActiveUJ, healthy.activeJ, 0.05)
}
