package tune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"wattline/replay"
	"wattline/replay/table"
)

// Goal is what is made best.
type Goal string

// The goals.
const (
	TokensPerJoule  Goal = "tokens-per-joule"
	TokensPerSecond Goal = "tokens-per-second"
	TTFT            Goal = "ttft"
)

// Score is what a candidate reached.
type Score struct {
	TokensPerJoule  replay.Num `json:"tokens_per_joule"`
	TokensPerSecond replay.Num `json:"tokens_per_second"` // of the whole server
	TTFTMs          replay.Num `json:"ttft_ms"`
	Kept            replay.Num `json:"goodput_share"` // null without objectives
}

// ScoreOf is the score of a run.
func ScoreOf(run *replay.Run) Score {
	r := run.Results()
	s := Score{TokensPerJoule: r.Energy.TokensPerJoule, TokensPerSecond: r.Throughput.SystemTokensPerSecond, TTFTMs: r.Latency.TimeToFirstTokenMs}
	if r.Goodput != nil {
		s.Kept = r.Goodput.Share
	}
	return s
}

// Serves returns an error where a plan lacks a cell that another one has: a server that refuses the long requests is not a
// faster one.
func Serves(plan, given *replay.Plan) error {
	for _, d := range plan.Dropped {
		if !slices.ContainsFunc(given.Dropped, func(g replay.SkippedCell) bool { return g.Cell == d.Cell }) {
			return fmt.Errorf("does not serve %s: %s", d.Cell, d.Reason)
		}
	}
	return nil
}

// leastKept is the share of the requests that must keep the objectives.
const leastKept = 0.95

// value is the goal's figure, larger is better; absent where it is not known or the objectives are not kept.
func (s Score) value(g Goal) replay.Num {
	if s.Kept.Valid && s.Kept.V < leastKept {
		return replay.Num{}
	}
	switch g {
	case TokensPerSecond:
		return s.TokensPerSecond
	case TTFT:
		return replay.Ratio(replay.Some(1), s.TTFTMs)
	}
	return s.TokensPerJoule
}

// Tried is one candidate and how far it came.
type Tried struct {
	Candidate Candidate `json:"-"`
	Flags     string    `json:"flags"`
	Rounds    int       `json:"rounds"`
	Score     Score     `json:"score"` // of its last round
	Failure   string    `json:"failure,omitempty"`
}

// Try measures a candidate; effort doubles from round to round. An error is why it cannot be used; the search goes on.
type Try func(ctx context.Context, c Candidate, effort int) (Score, error)

// Result is a search.
type Result struct {
	Goal   Goal     `json:"goal"`
	Tried  []*Tried `json:"tried"` // the first is the flags as given
	Best   *Tried   `json:"best"`
	Ended  string   `json:"ended,omitempty"` // why it ended early
	Notes  []string `json:"notes,omitempty"`
	Effort int      `json:"effort"`
}

// OnlyGiven reports whether the budget left no time for anything but the flags as given.
func (r *Result) OnlyGiven() bool {
	return r.Ended != "" && !slices.ContainsFunc(r.Tried[1:], func(t *Tried) bool { return t.Rounds > 0 })
}

// Config of a search. Space, Given and Try are required.
type Config struct {
	Space []*Knob
	Given []string
	Goal  Goal
	Try   Try
	// Budget is how long the search, from Began on, and the proof of what it finds may take together; 0: no limit. The
	// search ends early enough for the proof; what was best then wins.
	Budget time.Duration
	Began  time.Time
	Say    func(format string, args ...any)
}

// The search's part of the budget: what the proof leaves, within these bounds. The flags as given have shown how long a start
// and a measurement take. Of these the proof needs three before its first round and two for each; fewer rounds than proofRounds
// tell little.
const (
	searchLeast = 0.4
	searchMost  = 0.6
	proofRounds = 4
	proofStarts = 3 + 2*proofRounds
)

// A candidate that takes so much longer than the flags as given is given up, but not before leastPatience.
const (
	tooSlow       = 4
	leastPatience = 30 * time.Second
)

// searchTime is how long the search may take where one start and measurement took once.
func searchTime(budget, once time.Duration) time.Duration {
	part := func(share float64) time.Duration { return time.Duration(share * float64(budget)) }
	return min(max(budget-proofStarts*once, part(searchLeast)), part(searchMost))
}

// Search tries the given flags and every single change, then what was better than the given ones together, by successive
// halving.
func Search(ctx context.Context, cfg Config) (*Result, error) {
	s := &search{Config: cfg, out: &Result{Goal: cfg.Goal}, took: map[int]time.Duration{}}
	base := s.add(Candidate{})
	if cfg.Budget > 0 {
		s.deadline = cfg.Began.Add(cfg.Budget)
	}
	if err := s.measure(ctx, base, 1); err != nil {
		return s.out, err
	}
	if cfg.Budget > 0 {
		s.deadline = cfg.Began.Add(searchTime(cfg.Budget, s.took[1]))
	}
	if base.Failure != "" {
		return s.out, fmt.Errorf("the server does not run with the flags as given: %s", base.Failure)
	}
	if cfg.Goal == TokensPerJoule && !base.Score.TokensPerJoule.Valid {
		s.out.Goal = TokensPerSecond
		s.out.Notes = append(s.out.Notes, "no joules were measured here, so tokens a second are made best, not tokens a joule")
	}
	alive := []*Tried{base}
	s.base = s.took[1]
	s.reserve = s.base // for what was better, together
	for _, k := range cfg.Space {
		for v := range k.Values {
			c := Candidate{[]Change{{k, v}}}
			if same(c, Candidate{}, cfg.Given) {
				continue
			}
			t := s.add(c)
			if err := s.measure(ctx, t, 1); err != nil {
				return s.finish(alive), err
			}
			alive = append(alive, t)
		}
	}
	alive, s.reserve = s.half(alive), 0
	if c := s.together(base); len(c.Changes) > 1 {
		t := s.add(c)
		if err := s.measure(ctx, t, 1); err != nil {
			return s.finish(alive), err
		}
		alive = append(alive, t)
	}
	for effort := 2; len(alive) > 1 && !s.over(effort); effort *= 2 {
		for _, t := range alive {
			if err := s.measure(ctx, t, effort); err != nil {
				return s.finish(alive), err
			}
		}
		alive = s.half(alive)
		s.out.Effort = effort
	}
	return s.finish(alive), nil
}

// search is a search under way.
type search struct {
	Config
	out      *Result
	deadline time.Time             // zero: none
	took     map[int]time.Duration // the longest start and measurement, by effort
	base     time.Duration         // the first, of the flags as given
	reserve  time.Duration         // that is kept for later
}

func (s *search) add(c Candidate) *Tried {
	t := &Tried{Candidate: c, Flags: c.String()}
	s.out.Tried = append(s.out.Tried, t)
	return t
}

// over reports whether another measurement would end behind the deadline.
func (s *search) over(effort int) bool {
	if s.deadline.IsZero() || time.Now().Add(max(s.took[effort], s.took[effort/2])+s.reserve).Before(s.deadline) {
		return false
	}
	s.out.Ended = "the budget ended the search"
	return true
}

// measure tries a candidate, until the deadline at most. An error ends the search.
func (s *search) measure(ctx context.Context, t *Tried, effort int) error {
	if len(s.out.Tried) > 1 && s.over(effort) {
		if t.Rounds == 0 { // otherwise its last score counts
			t.Failure = "not tried: the budget was used up"
		}
		return nil
	}
	limited, cancel := s.limit(ctx, effort)
	defer cancel()
	began := time.Now()
	score, err := s.Try(limited, t.Candidate, effort)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted")
	case err != nil && limited.Err() != nil:
		if t.Rounds == 0 {
			t.Failure = context.Cause(limited).Error()
		}
		s.Say("%s: %s", t.Flags, context.Cause(limited))
		return nil
	case err != nil:
		t.Failure = firstLine(err.Error())
		s.Say("%s: %s", t.Flags, t.Failure)
		return nil
	}
	s.took[effort] = max(s.took[effort], time.Since(began))
	t.Score = score
	t.Rounds++
	s.Say("%s: %s tokens/s, %s tokens/J, TTFT %s ms", t.Flags, table.Num(score.TokensPerSecond), table.Num(score.TokensPerJoule), table.Num(score.TTFTMs))
	return nil
}

// limit bounds a measurement.
func (s *search) limit(ctx context.Context, effort int) (context.Context, context.CancelFunc) {
	until, why := s.deadline, errors.New("not finished: the budget was used up")
	if s.base > 0 {
		patience := max(leastPatience, tooSlow*time.Duration(effort)*s.base)
		if slow := time.Now().Add(patience); until.IsZero() || slow.Before(until) {
			until, why = slow, fmt.Errorf("given up: not finished after %s", patience.Round(time.Second))
		}
	}
	if until.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, until, why)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// half keeps the better half of the candidates that run, the best first.
func (s *search) half(list []*Tried) []*Tried {
	list = slices.DeleteFunc(slices.Clone(list), func(t *Tried) bool { return t.Failure != "" || !t.Score.value(s.out.Goal).Valid })
	slices.SortStableFunc(list, func(a, b *Tried) int { return cmp.Compare(b.Score.value(s.out.Goal).V, a.Score.value(s.out.Goal).V) })
	return list[:(len(list)+1)/2]
}

// together joins the best change of each knob that was better than the flags as given.
func (s *search) together(base *Tried) (out Candidate) {
	for _, k := range s.Space {
		var best *Tried
		for _, t := range s.out.Tried {
			if len(t.Candidate.Changes) != 1 || t.Candidate.Changes[0].Knob != k || t.Failure != "" {
				continue
			}
			v := t.Score.value(s.out.Goal)
			if v.Valid && v.V > base.Score.value(s.out.Goal).V && (best == nil || v.V > best.Score.value(s.out.Goal).V) {
				best = t
			}
		}
		if best != nil {
			out.Changes = append(out.Changes, best.Candidate.Changes[0])
		}
	}
	return out
}

func (s *search) finish(alive []*Tried) *Result {
	if alive = s.half(alive); len(alive) > 0 {
		s.out.Best = alive[0]
	}
	return s.out
}

// Terminal prints everything that was tried.
func (r *Result) Terminal(w io.Writer) {
	t := table.NewNumeric(w, "flags", "rounds", "tokens/J", "tokens/s", "ttft ms", "kept", "")
	for _, c := range r.Tried {
		mark := ""
		switch {
		case c == r.Best:
			mark = "best"
		case c.Failure != "":
			mark = c.Failure
		}
		kept := table.Absent
		if c.Score.Kept.Valid {
			kept = fmt.Sprintf("%.0f %%", 100*c.Score.Kept.V)
		}
		t.Row(c.Flags, c.Rounds, table.Num(c.Score.TokensPerJoule), table.Num(c.Score.TokensPerSecond), table.Num(c.Score.TTFTMs), kept, mark)
	}
	t.Render()
	for _, n := range append(r.Notes, r.Ended) {
		if n != "" {
			fmt.Fprintf(table.Plain(w), "- %s\n", n)
		}
	}
}
