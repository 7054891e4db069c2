package chtest

import (
	"context"
	"maps"
	"sync"
	"time"
)

// FaultKind says what happens to one INSERT that carries rows.
type FaultKind string

// The faults. In all but None the client gets no answer and cannot know whether the rows are in.
const (
	None       FaultKind = "none"
	CutBefore  FaultKind = "cut before execution"    // the connection closes, nothing was inserted
	CutAfter   FaultKind = "cut after commit"        // the rows are in, the connection closes instead of an answer
	HangBefore FaultKind = "silent before execution" // nothing is inserted, the client waits until it gives up
	HangAfter  FaultKind = "silent after commit"     // the rows are in, the client waits until it gives up
	Kill       FaultKind = "engine killed during it" // kill -9 in the middle, restarted later; the rows may be in or not
)

// Late is the hardest case: the client gets no answer, looks for its rows, finds none, and then they are inserted.
const Late FaultKind = "cut, carried out later"

// Fault is one planned failure.
type Fault struct {
	Kind  FaultKind
	After time.Duration // Kill: how long into the INSERT; Late: how much later
	Down  time.Duration // Kill: how long until the engine is started again
}

type faults struct {
	mu    sync.Mutex // guards what follows
	plan  func(insert int) Fault
	count int
	tried map[FaultKind]int

	later sync.WaitGroup // what is still to be carried out: late INSERTs, restarts
}

// Settle waits until late INSERTs have been carried out and a killed engine was started again. No INSERT may
// come meanwhile.
func (s *Server) Settle() { s.faults.later.Wait() }

// Plan sets what happens to the INSERTs from now on, which are numbered from 0. The function runs under a
// lock, one call at a time. Nil means no faults.
func (s *Server) Plan(f func(insert int) Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.plan, s.faults.count = f, 0
}

// Tried returns how many INSERTs met each kind of fault so far.
func (s *Server) Tried() map[FaultKind]int {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return maps.Clone(s.faults.tried)
}

func (f *faults) next() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := Fault{Kind: None}
	if f.plan != nil {
		out = f.plan(f.count)
	}
	f.count++
	f.tried[out.Kind]++
	return out
}

// executeLate carries the INSERT out f.After from now in a session of its own, whatever the client does.
func (s *Server) executeLate(r request, f Fault) {
	s.faults.later.Add(1)
	time.AfterFunc(f.After, func() {
		defer s.faults.later.Done()
		ses, err := s.engine.session()
		if err != nil {
			return // killed meanwhile
		}
		defer ses.close()
		_, err = s.runPlain(context.Background(), ses, r)
		s.report(err)
	})
}

// killDuring starts the INSERT, kills the engine f.After later and has it restarted f.Down after that. It
// returns when the engine is dead.
func (s *Server) killDuring(ctx context.Context, ses *session, r request, f Fault) {
	done := make(chan struct{})
	go func() { // ends at the latest when the engine dies
		defer close(done)
		_, _ = s.runPlain(ctx, ses, r)
	}()
	time.Sleep(f.After) // the moment of death is real time on purpose: the engine's work cannot be faked
	s.engine.Kill()
	<-done
	s.faults.later.Add(1)
	time.AfterFunc(f.Down, func() {
		defer s.faults.later.Done()
		_ = s.engine.Restart()
	})
}
