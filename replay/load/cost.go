package load

import (
	"math"
	"time"

	"wattline/replay"
)

// cost predicts how long requests take: a prompt of n tokens a*n + b*n², a token of the reply c. It is
// fitted by least squares to the requests seen so far; b stays zero until two sizes are known.
type cost struct {
	n2, n3, n4, tn, tn2 float64 // sums over requests of n², n³, n⁴, t·n, t·n²
	sizes               map[int]bool
	decodeS, tokens     float64
}

func (c *cost) learn(ex *replay.Exchange) {
	if !ex.OK() || !ex.TTFTUs.Valid {
		return
	}
	n, t := float64(ex.Cell.PromptTokens), float64(ex.TTFTUs.V)/1e6
	c.n2 += n * n
	c.n3 += n * n * n
	c.n4 += n * n * n * n
	c.tn += t * n
	c.tn2 += t * n * n
	if c.sizes == nil {
		c.sizes = map[int]bool{}
	}
	c.sizes[ex.Cell.PromptTokens] = true
	if tpot := ex.TPOTUs(); tpot.Valid {
		c.decodeS += tpot.V / 1e6 * float64(ex.OutputTokens.V)
		c.tokens += float64(ex.OutputTokens.V)
	}
}

// request predicts one request's seconds.
func (c *cost) request(cell replay.Cell) float64 {
	if c.n2 == 0 {
		return 0
	}
	a, b := c.tn/c.n2, 0.0
	if det := c.n2*c.n4 - c.n3*c.n3; len(c.sizes) > 1 && det > 0 {
		a, b = (c.tn*c.n4-c.tn2*c.n3)/det, (c.n2*c.tn2-c.n3*c.tn)/det
		if a < 0 || b < 0 {
			a, b = c.tn/c.n2, 0
		}
	}
	n := float64(cell.PromptTokens)
	seconds := a*n + b*n*n
	if c.tokens > 0 {
		seconds += c.decodeS / c.tokens * float64(cell.OutputTokens)
	}
	return seconds
}

// predict returns the time that a cell takes in one trial.
func (r *Runner) predict(cell replay.Cell) time.Duration {
	s := &r.cfg.Plan.Spec
	r.mu.Lock()
	one := r.cost.request(cell)
	r.mu.Unlock()
	seconds := 0.0
	switch {
	case r.cfg.Recording != nil:
		seconds = r.cfg.Recording.lasts().Seconds()
	case s.Duration > 0:
		seconds = max(r.share().Seconds(), one)
	case s.Rate > 0:
		seconds = float64(s.Requests)/s.Rate + one
	default: // as many rounds as the slots allow
		at := max(1, min(s.Concurrency, max(r.cfg.Slots, 1)))
		seconds = one * math.Ceil(float64(s.Requests)/float64(at))
	}
	return time.Duration(seconds*1e9) + time.Duration(s.Pause)
}

// share is the part of --duration for one cell of one trial.
func (r *Runner) share() time.Duration {
	p := r.cfg.Plan
	return time.Duration(p.Spec.Duration) / time.Duration(max(1, len(p.Cells)*len(p.Order)))
}

// afford chooses the cells that the budget allows, in the order of the plan, and reports those it leaves out.
func (r *Runner) afford() map[int]bool {
	chosen := map[int]bool{}
	trials, budget := time.Duration(len(r.cfg.Plan.Order)), r.cfg.Budget
	if r.cfg.TrialBudget > 0 {
		trials, budget = 1, r.cfg.TrialBudget
	}
	total := time.Duration(0)
	for i, c := range r.cfg.Plan.Cells {
		takes := r.predict(c) * trials
		if budget > 0 && total+takes > budget && len(chosen) > 0 {
			r.skip(c, takes, budget)
			continue
		}
		total += takes
		chosen[i] = true
	}
	r.cfg.Say("predicted duration: %s for %d cells, from the warm-up's speed", round(total), len(chosen))
	return chosen
}

// affordable checks the budget again before a cell, with the speed measured since.
func (r *Runner) affordable(trial, cell int) bool {
	c := r.cfg.Plan.Cells[cell]
	takes := r.predict(c)
	if r.cfg.Budget <= 0 || len(r.exchanges) == 0 || time.Since(r.began)+takes <= r.cfg.Budget {
		return true
	}
	if trial > 0 {
		r.cfg.Say("the budget of %s ends trial %d before %s", r.cfg.Budget, trial+1, c)
	}
	r.skip(c, takes, r.cfg.Budget)
	return false
}

func (r *Runner) skip(c replay.Cell, takes, budget time.Duration) {
	why := "predicted to take " + round(takes) + ", beyond the budget of " + round(budget)
	r.cfg.Say("skipped: %s: %s (--budget)", c, why)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skipped = append(r.skipped, replay.SkippedCell{Cell: c, Reason: why})
}

func round(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
