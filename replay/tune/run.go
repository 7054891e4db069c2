package tune

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"wattline/replay"
	"wattline/replay/compare"
	"wattline/replay/compare/live"
	"wattline/replay/session"
	"wattline/replay/table"
)

// Run is a search and the proof of what it found. All fields are required, but for Margin.
type Run struct {
	Session session.Config  // with the server's address, and what is sent
	Command []string        // the server's program and flags, as the user gave them
	Known   map[string]bool // the flags of the server's --help, and whether they take a value
	// Start makes the server run with these flags, and reports whether it was started for it.
	Start  func(ctx context.Context, flags []string) (started bool, err error)
	Goal   Goal
	Budget time.Duration // for search and proof
	Margin float64       // differences below it do not matter
	Out    io.Writer
	Say    func(format string, args ...any)
}

// ErrInvalid is a proof that must not be used.
var ErrInvalid = errors.New("the comparison is INVALID, so nothing is recommended; the reasons are above")

// Do searches, compares the winner with the flags as given, and prints the command line to use.
func (r *Run) Do(ctx context.Context) error {
	given := WithoutAddress(r.Command[1:])
	space := Space(r.Known, given)
	if len(space) == 0 {
		return fmt.Errorf("the --help of %s names none of the flags that are tried: is it a llama-server?", r.Command[0])
	}
	began := time.Now()
	var first *replay.Plan // of the flags as given, which are tried first
	res, err := Search(ctx, Config{
		Space: space, Given: given, Goal: r.Goal, Say: r.Say, Budget: r.Budget, Began: began,
		Try: func(ctx context.Context, cand Candidate, effort int) (Score, error) {
			if _, err := r.Start(ctx, cand.Apply(given)); err != nil {
				return Score{}, err
			}
			cfg := r.Session
			cfg.Spec.Requests *= effort
			cfg.Patience = time.Second
			return try(ctx, cfg, &first)
		},
	})
	if len(res.Tried) > 0 {
		res.Terminal(r.Out)
	}
	if err != nil {
		return err
	}
	return r.prove(ctx, given, res, r.Budget-time.Since(began))
}

// try measures the running server. It must serve every cell that the flags as given serve; their plan is kept in first.
func try(ctx context.Context, cfg session.Config, first **replay.Plan) (Score, error) {
	s, err := session.Open(ctx, cfg)
	if err != nil {
		return Score{}, err
	}
	defer s.Close()
	if *first == nil {
		*first = s.Plan
	}
	if err := Serves(s.Plan, *first); err != nil {
		return Score{}, err
	}
	run, err := s.Run(ctx)
	if err != nil {
		return Score{}, err
	}
	if run.Interrupted { // a part of the requests is no measurement
		return Score{}, errors.New("interrupted")
	}
	for _, e := range run.Exchanges {
		if !e.OK() {
			return Score{}, fmt.Errorf("a request failed: %s", e.Error)
		}
	}
	return ScoreOf(run), nil
}

// prove compares the winner with the flags as given, interleaved; the server is started anew for each turn.
func (r *Run) prove(ctx context.Context, given []string, res *Result, left time.Duration) error {
	out := table.Plain(r.Out)
	if res.Best == nil {
		return errors.New("no flags keep the objectives of --goodput; what was tried is above")
	}
	if res.OnlyGiven() {
		return fmt.Errorf("the budget was used up before anything but the flags as given was measured: give a --budget above %s", r.Budget)
	}
	if len(res.Best.Candidate.Changes) == 0 {
		fmt.Fprintln(out, "\nNothing that was tried is better than the flags as given.")
		return nil
	}
	if left <= 0 {
		return fmt.Errorf("the budget was used up by the search, so %s is not proven to be better: give a --budget above %s", res.Best.Flags, r.Budget)
	}
	best := res.Best.Candidate.Apply(given)
	fmt.Fprintf(out, "\nComparing %s with the flags as given:\n", res.Best.Flags)
	l, err := live.Run(ctx, live.Config{
		Sides: [2]session.Config{r.Session, r.Session}, Labels: [2]string{"as given", res.Best.Flags}, Budget: left, Say: r.Say,
		Options: compare.Options{Margin: r.Margin},
		Switch: func(ctx context.Context, side int) (bool, error) {
			return r.Start(ctx, [][]string{given, best}[side])
		},
	})
	if err != nil {
		return err
	}
	if l.Compare != nil {
		l.Compare.Terminal(r.Out)
	}
	if l.Failure != nil && l.Compare == nil {
		return l.Failure
	}
	if l.Failure != nil {
		return fmt.Errorf("%w; what was measured until then is above", l.Failure)
	}
	if l.Compare.Invalid {
		return ErrInvalid
	}
	key := map[Goal]string{TokensPerJoule: "j_per_token", TokensPerSecond: "e2e", TTFT: "ttft"}[res.Goal]
	for _, m := range l.Compare.Metrics {
		switch {
		case m.Key != key:
		case m.Verdict == compare.Better:
			fmt.Fprintf(out, "\nUse (%s %s):\n\n  %s\n", m.Title, m.Effect.Range(), Quote(append([]string{r.Command[0]}, res.Best.Candidate.Apply(r.Command[1:])...)))
		default:
			fmt.Fprintf(out, "\nKeep the flags as given: of %s, %s is %s (%s).\n", res.Best.Flags, m.Title, m.Verdict, m.Effect.Range())
		}
	}
	return nil
}
