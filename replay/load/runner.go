package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wattline/replay"
)

// Sender sends one request and measures it; errors are in the Exchange.
type Sender interface {
	Send(ctx context.Context, r *replay.Request) *replay.Exchange
	Events() int64 // of all streams so far; for the progress line
}

// preparer is a Sender that can make a request's body before it is due.
type preparer interface{ Prepare(r *replay.Request) }

// Prompts makes texts of exact sizes.
type Prompts interface {
	Make(ctx context.Context, task string, tokens int, seed uint64) (string, error)
}

// Config of a run. Plan, Sender and Prompts are required.
type Config struct {
	Plan    *replay.Plan
	Sender  Sender
	Prompts Prompts
	// Recording, if not nil, is the trace that is sent instead of cells; the plan then has one.
	Recording *Recording
	// Slots of the server bound how many requests are really answered at once; for the warm-up.
	Slots int
	// NoWarmup leaves the warm-up out.
	NoWarmup bool
	// Budget is how long the run may take; cells that are predicted to exceed it are left out. 0: no limit.
	Budget time.Duration
	// TrialBudget is the same for one trial, where it is not known beforehand how many there will be.
	TrialBudget time.Duration
	// Rest, if not nil, is called between cells and returns when the server's device is back at rest; it
	// reports whether it came to that.
	Rest func(ctx context.Context, after replay.Cell) (bool, error)
	// Enough, if not nil, ends a cell that has a duration before its time is over.
	Enough func() bool
	// Offset is called once, in the warm-up, with the server's count of a prompt minus the size asked for, if they differ.
	Offset func(tokens int)
	// Sleep sleeps for up to 2 ms before a request is due. Default: PreciseSleep.
	Sleep func(time.Duration)
	// CPU is the process's CPU time so far in seconds; nil: not published.
	CPU func() replay.Num
	// Say receives one line for the user; Progress is drawn over itself if not nil.
	Say      func(format string, args ...any)
	Progress io.Writer
	// Watts is the power just now, for the progress line; nil or absent: not shown.
	Watts func() replay.Num
}

// Runner is a run under way.
type Runner struct {
	cfg      Config
	cost     cost
	began    time.Time
	chosen   map[int]bool // cells that the budget allows
	inFlight atomic.Int64
	done     atomic.Int64

	mu        sync.Mutex // guards what follows
	exchanges []*replay.Exchange
	warmups   []*replay.Exchange
	spans     []replay.Span
	skipped   []replay.SkippedCell
	at        replay.Key // trial and cell that run
	atSince   time.Time
	notIdle   []string // cells after which the power did not come back
}

// Run runs the plan. When ctx ends, it returns what was measured so far, with Interrupted set. An error
// is a sentence for the user; then nothing was measured.
func Run(ctx context.Context, cfg Config) (*replay.Run, error) {
	r, err := Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	stop := r.progress()
	for trial := range cfg.Plan.Order {
		if err = r.Trial(ctx, trial); err != nil {
			break
		}
	}
	stop()
	return r.End(ctx, err)
}

// Start warms up and chooses the cells that the budget allows.
func Start(ctx context.Context, cfg Config) (*Runner, error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Sleep == nil {
		cfg.Sleep = PreciseSleep
	}
	r := &Runner{cfg: cfg, began: time.Now()}
	if !cfg.NoWarmup {
		if err := r.WarmUp(ctx); ctx.Err() != nil {
			return nil, errInterrupted
		} else if err != nil {
			return nil, err
		}
	}
	r.chosen = r.afford()
	return r, nil
}

// Chosen are the cells that run; the caller may take some away between trials.
func (r *Runner) Chosen() map[int]bool { return r.chosen }

// Snapshot is what was measured so far.
func (r *Runner) Snapshot() *replay.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &replay.Run{
		Plan: r.cfg.Plan, StartedAt: r.began.UTC(), EndedAt: time.Now().UTC(), Exchanges: slices.Clone(r.exchanges),
		Warmups: slices.Clone(r.warmups), Spans: slices.Clone(r.spans), Skipped: slices.Clone(r.skipped), NotIdle: slices.Clone(r.notIdle),
	}
}

// End returns what was measured until err, the error of a Trial, or nil.
func (r *Runner) End(ctx context.Context, err error) (*replay.Run, error) {
	out := r.Snapshot()
	switch {
	case ctx.Err() != nil:
		out.Interrupted = true
	case err != nil && len(out.Exchanges) == 0:
		return nil, err
	case err != nil:
		out.Failure = err.Error()
	}
	if out.Interrupted && len(out.Exchanges) == 0 {
		return nil, errInterrupted
	}
	return out, nil
}

var errInterrupted = errors.New("interrupted before anything was measured")

// Trial runs every chosen cell once.
func (r *Runner) Trial(ctx context.Context, trial int) error {
	for _, cell := range r.cfg.Plan.Order[trial] {
		if !r.chosen[cell] || !r.affordable(trial, cell) {
			continue
		}
		if err := r.cell(ctx, trial, cell); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.rest(ctx, cell); err != nil {
			return err
		}
	}
	return nil
}

// rest waits between two cells.
func (r *Runner) rest(ctx context.Context, cell int) error {
	if p := time.Duration(r.cfg.Plan.Spec.Pause); p > 0 {
		if err := sleep(ctx, p); err != nil {
			return err
		}
	}
	if r.cfg.Rest == nil {
		return nil
	}
	back, err := r.cfg.Rest(ctx, r.cfg.Plan.Cells[cell])
	if err == nil && !back {
		r.notIdle = append(r.notIdle, r.cfg.Plan.Cells[cell].String())
	}
	return err
}

// cpu is the CPU time that this process has used.
func (r *Runner) cpu() replay.Num {
	if r.cfg.CPU == nil {
		return replay.Num{}
	}
	return r.cfg.CPU()
}

// keep notes an exchange.
func (r *Runner) keep(ex *replay.Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, ex)
	r.cost.learn(ex)
}

// send sends one request of the plan.
func (r *Runner) send(ctx context.Context, req *replay.Request) *replay.Exchange {
	r.inFlight.Add(1)
	ex := r.cfg.Sender.Send(ctx, req)
	r.inFlight.Add(-1)
	if ctx.Err() != nil && !ex.OK() {
		return ex // given up by the user, not by the server
	}
	r.keep(ex)
	r.done.Add(1)
	return ex
}

// request makes one request of the plan.
func (r *Runner) request(k replay.Key, prompt string) *replay.Request {
	s := &r.cfg.Plan.Spec
	return &replay.Request{
		Key: k, Cell: r.cfg.Plan.Cells[k.Cell], Prompt: prompt, Cache: s.Cache, Forced: s.Length == replay.Forced,
		Seed: uint32(r.cfg.Plan.PromptSeed(k)), // only a seed
	}
}

func (r *Runner) prompt(ctx context.Context, k replay.Key) (string, error) {
	c := r.cfg.Plan.Cells[k.Cell]
	return r.cfg.Prompts.Make(ctx, c.Task, c.PromptTokens, r.cfg.Plan.PromptSeed(k))
}

// name is how a cell is announced.
func (r *Runner) name(trial, cell int) string {
	c := r.cfg.Plan.Cells[cell].String()
	if len(r.cfg.Plan.Order) > 1 {
		return fmt.Sprintf("trial %d, %s", trial+1, c)
	}
	return c
}
