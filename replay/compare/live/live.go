// Package live measures two endpoints in turn, A B B A, until the intervals of every metric are narrow enough.
package live

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"wattline/replay"
	"wattline/replay/compare"
	"wattline/replay/session"
)

// Config of a session. Sides, Say and Options are required.
type Config struct {
	// Sides are the sessions of A and B, without their RunID. Both must have the same workload.
	Sides  [2]session.Config
	Labels [2]string
	// Switch, if not nil, is called before a side is asked anything: it makes that side's server the one that runs, and
	// reports whether that one was started for it. Both sides' rows are then at one admin listener, which runs with either.
	Switch func(ctx context.Context, side int) (started bool, err error)
	// Budget is how long all may take. Default: 10 minutes.
	Budget  time.Duration
	Options compare.Options
	Say     func(format string, args ...any)
}

// DefaultBudget of a session.
const DefaultBudget = 10 * time.Minute

const (
	maxRounds = 500
	joinTime  = 10 * time.Second // until the last rows' energy is final
)

// Result is what was measured, and what it says.
type Result struct {
	Runs    [2]*replay.Run  // nil: of this side nothing was measured
	Compare *compare.Result // of the complete rounds; nil where nothing can be compared, and Failure says why
	// Failure is what ended the session early; nil: the intervals or the budget did.
	Failure error
}

// measurement is a session under way.
type measurement struct {
	cfg      Config
	began    time.Time
	sides    [2]*session.Session
	steps    [2]*session.Steps
	starting time.Duration // the longest start of a server by Switch
}

// Run measures. An error means that nothing was; what ends a session half-way is in Result.Failure.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.Budget <= 0 {
		cfg.Budget = DefaultBudget
	}
	m := &measurement{cfg: cfg, began: time.Now()}
	defer m.close()
	if err := m.open(ctx); err != nil {
		return nil, err
	}
	trials, failure := m.rounds(ctx)
	return m.end(ctx, trials, failure)
}

func (m *measurement) close() {
	for _, s := range m.sides {
		if s != nil {
			s.Close()
		}
	}
}

// turn makes a side's server the one that runs.
func (m *measurement) turn(ctx context.Context, side int) (started bool, err error) {
	if m.cfg.Switch == nil {
		return false, nil
	}
	began := time.Now()
	started, err = m.cfg.Switch(ctx, side)
	if started {
		m.starting = max(m.starting, time.Since(began))
	}
	return started, err
}

// trial runs a trial of a side. A server that was started for it answers throw-away requests first.
func (m *measurement) trial(ctx context.Context, side, trial int) error {
	started, err := m.turn(ctx, side)
	if err == nil && started {
		err = m.steps[side].WarmUp(ctx)
	}
	if err == nil {
		err = m.steps[side].Trial(ctx, trial)
	}
	return err
}

// open asks both servers, gives both the same plan, and warms them up.
func (m *measurement) open(ctx context.Context) error {
	id := session.NewRunID()
	for i := range m.sides {
		if _, err := m.turn(ctx, i); err != nil {
			return err
		}
		c := m.cfg.Sides[i]
		c.RunID, c.Budget = id, 0
		c.Spec.Trials = 4 * maxRounds
		s, err := session.Open(ctx, c)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", side(i), m.cfg.Labels[i], err)
		}
		m.sides[i] = s
	}
	a, b := m.sides[0], m.sides[1]
	if len(a.Plan.Cells) < len(b.Plan.Cells) {
		b.Plan = a.Plan // what fits the smaller context
	} else {
		a.Plan = b.Plan
	}
	left := m.cfg.Budget - time.Since(m.began) - 2*(compare.MinRounds+1)*m.starting
	for _, i := range []int{1, 0} { // A's server is then the one that runs, and A has the first trial
		s := m.sides[i]
		if _, err := m.turn(ctx, i); err != nil {
			return m.unused(ctx, err)
		}
		s.LimitTrial(max(left, time.Second) / (4 * compare.MinRounds))
		steps, err := s.Begin(ctx)
		if err != nil {
			return m.unused(ctx, fmt.Errorf("%s, %s: %w", side(i), m.cfg.Labels[i], err))
		}
		m.steps[i] = steps
	}
	for i, s := range m.steps { // only what both can afford
		maps.DeleteFunc(s.Chosen(), func(cell int, _ bool) bool { return !m.steps[1-i].Chosen()[cell] })
	}
	return nil
}

// unused ends the sides that have begun before anything was measured, and returns why.
func (m *measurement) unused(ctx context.Context, why error) error {
	for _, begun := range m.steps {
		if begun != nil {
			_, _ = begun.End(ctx, nil)
		}
	}
	return why
}

func side(i int) string { return string(rune('A' + i)) }

// rounds measures rounds until the intervals are narrow enough, the budget ends, or an endpoint fails.
func (m *measurement) rounds(ctx context.Context) (trials int, failure error) {
	for round := range maxRounds {
		began := time.Now()
		for trial := 4 * round; trial < 4*(round+1); trial++ {
			i := 0
			if compare.Turn(trial) {
				i = 1
			}
			err := m.trial(ctx, i, trial)
			trials = trial + 1
			if ctx.Err() != nil {
				return trials, errors.New("interrupted")
			}
			if err != nil {
				return trials, fmt.Errorf("%s, %s, ended half-way: %w", side(i), m.cfg.Labels[i], err)
			}
			if dead := m.dead(i); dead != nil {
				return trials, fmt.Errorf("%s, %s, ended half-way: %w", side(i), m.cfg.Labels[i], dead)
			}
		}
		if m.enough(ctx, round+1) {
			return trials, nil
		}
		if time.Since(m.began)+time.Since(began)+min(m.cfg.Budget/20, joinTime) > m.cfg.Budget { // another round would be longer
			m.cfg.Say("the budget of %s ends the session (--budget)", m.cfg.Budget)
			return trials, nil
		}
	}
	return trials, nil
}

func (m *measurement) margin() float64 {
	if m.cfg.Options.Margin == 0 {
		return 100 * compare.DefaultMargin
	}
	return 100 * m.cfg.Options.Margin
}

// dead is the error of a side whose requests of the last trial all failed.
func (m *measurement) dead(i int) error {
	list := m.steps[i].Last()
	for _, e := range list {
		if e.OK() {
			return nil
		}
	}
	if len(list) == 0 {
		return nil
	}
	return errors.New(list[0].Error)
}

// enough looks at the intervals so far.
func (m *measurement) enough(ctx context.Context, rounds int) bool {
	if rounds < compare.MinRounds {
		m.cfg.Say("round %d of at least %d", rounds, compare.MinRounds)
		return false
	}
	opt := m.cfg.Options
	opt.Look = true
	r, err := compare.Compare(compare.FromRun("", m.steps[0].SoFar(ctx)), compare.FromRun("", m.steps[1].SoFar(ctx)), opt)
	if err != nil {
		return false
	}
	m.cfg.Say("round %d: the widest interval is ± %.2g %%, enough is ± %.2g %%", rounds, r.Widest()*m.margin(), compare.Narrow*m.margin())
	return r.Widest() <= compare.Narrow
}

// end collects the runs and compares their whole rounds. Whatever fails here, what was measured is returned.
func (m *measurement) end(ctx context.Context, trials int, failure error) (*Result, error) {
	out := &Result{Failure: failure}
	if m.cfg.Switch != nil && failure != nil && ctx.Err() == nil {
		_, _ = m.turn(ctx, 0) // a server that did not start has taken the admin listener with it
	}
	plan, err := m.sides[0].Plan.Trim(trials)
	if err != nil {
		plan = m.sides[0].Plan
		out.Failure = errors.Join(out.Failure, err)
	}
	for i, s := range m.steps {
		run, err := s.End(ctx, failure)
		if err != nil {
			if failure == nil || !errors.Is(err, failure) {
				out.Failure = fmt.Errorf("%s, %s: nothing was measured: %w", side(i), m.cfg.Labels[i], err)
			}
			continue
		}
		if m.cfg.Switch != nil {
			run.After = nil // another server runs now
		}
		run.Plan = plan
		out.Runs[i] = run
	}
	if out.Runs[0] == nil || out.Runs[1] == nil {
		if out.Runs[0] == nil && out.Runs[1] == nil {
			return nil, out.Failure
		}
		return out, nil
	}
	out.Compare, err = compare.Compare(compare.FromRun(m.cfg.Labels[0], out.Runs[0]), compare.FromRun(m.cfg.Labels[1], out.Runs[1]), m.cfg.Options)
	if err != nil {
		out.Failure = errors.Join(out.Failure, err)
		return out, nil
	}
	out.Compare.Seconds = replay.Some(time.Since(m.began).Seconds())
	return out, nil
}
