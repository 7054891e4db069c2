package session

import (
	"context"
	"slices"
	"time"

	"wattline/replay"
	"wattline/replay/load"
)

// Steps is a run that the caller takes trial by trial, for sessions that are measured in turn.
type Steps struct {
	s      *Session
	runner *load.Runner
	w      *load.Watcher // nil without wattline
}

// Begin warms up and chooses the cells.
func (s *Session) Begin(ctx context.Context) (*Steps, error) {
	cfg, w, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	cfg.Progress = nil
	runner, err := load.Start(ctx, cfg)
	if err != nil {
		if w != nil {
			w.Stop()
		}
		return nil, err
	}
	return &Steps{s, runner, w}, nil
}

// Chosen are the indexes of the cells that run; the caller may take some away between trials.
func (p *Steps) Chosen() map[int]bool { return p.runner.Chosen() }

// WarmUp sends the throw-away requests again, to a server that was started anew.
func (p *Steps) WarmUp(ctx context.Context) error { return p.runner.WarmUp(ctx) }

// Trial runs every cell once.
func (p *Steps) Trial(ctx context.Context, trial int) error { return p.runner.Trial(ctx, trial) }

// Last are the requests of the last trial that ran.
func (p *Steps) Last() []*replay.Exchange {
	list := p.runner.Snapshot().Exchanges
	if len(list) == 0 {
		return nil
	}
	trial := list[len(list)-1].Trial
	return slices.DeleteFunc(list, func(e *replay.Exchange) bool { return e.Trial != trial })
}

// soFarWait is how long SoFar waits for energy to become final.
const soFarWait = 4 * time.Second

// SoFar is what was measured so far, with wattline's rows.
func (p *Steps) SoFar(ctx context.Context) *replay.Run {
	run := p.runner.Snapshot()
	run.Server = p.s.Server
	if p.s.Admin != nil {
		if err := p.s.Admin.Join(ctx, run.Exchanges, soFarWait); err != nil {
			p.s.cfg.Log.Debug("no in-line rows yet", "error", err)
		}
	}
	return run
}

// End returns what was measured. failure is the error of the last Trial, or nil.
func (p *Steps) End(ctx context.Context, failure error) (*replay.Run, error) {
	run, err := p.runner.End(ctx, failure)
	return p.s.finish(ctx, p.w, run, err)
}
