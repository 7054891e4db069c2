package sweep

import (
	"context"
	"fmt"
	"slices"
	"time"

	"wattline/replay"
	"wattline/replay/session"
)

// Config of a sweep. Session, Plan, Budget and Say are required.
type Config struct {
	Session *session.Session
	Plan    Plan
	Spec    replay.Spec   // the workload; its load is replaced
	Budget  time.Duration // of all points together; 0: none, for a list of concurrencies
	// Objectives are those of the session.
	Objectives []replay.Objective
	// Keep is called with each run, in order.
	Keep func(name string, run *replay.Run) error
	Say  func(format string, args ...any)
}

// DefaultBudget of a search for the knee.
const DefaultBudget = 10 * time.Minute

// runner is a sweep under way.
type runner struct {
	Config
	began time.Time
	out   *Result
	warm  bool
}

// Run measures the points. What ends it half-way is returned beside what was measured until then.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	r := &runner{Config: cfg, began: time.Now(), out: &Result{Model: cfg.Session.Server.Model, At: time.Now().UTC(), Notes: []string{}}}
	p := cfg.Session.Plan
	r.out.What = fmt.Sprintf("%s: %d cells, %s cache, %s length", p.Spec.Name, len(p.Cells), p.Spec.Cache, p.Spec.Length)
	var err error
	if cfg.Plan.Auto {
		err = r.knee(ctx)
	} else {
		for _, n := range cfg.Plan.Concurrency {
			if cfg.Budget > 0 {
				left := cfg.Budget - time.Since(r.began)
				if left <= 0 {
					err = fmt.Errorf("the budget of %s was used up before concurrency %d (--budget)", cfg.Budget, n)
					break
				}
				cfg.Session.Limit(left)
			}
			spec := cfg.Spec
			spec.Rate, spec.Concurrency = 0, n
			if _, err = r.point(ctx, fmt.Sprintf("concurrency-%d", n), spec, false); err != nil {
				break
			}
		}
	}
	Mark(r.out.Points)
	return r.out, err
}

// point measures one load. Each point's prompts are its own, so that no cache holds them.
func (r *runner) point(ctx context.Context, name string, spec replay.Spec, warm bool) (*Point, error) {
	spec.Seed = max(spec.Seed, 1) + uint64(len(r.out.Points))
	if err := r.Session.Replan(ctx, spec, warm); err != nil {
		return nil, err
	}
	run, err := r.Session.Run(ctx)
	if err != nil {
		return nil, err
	}
	r.out.Points = append(r.out.Points, PointOf(run))
	p := &r.out.Points[len(r.out.Points)-1]
	if note := "the energy is SIMULATED: no joule in it was measured"; run.Results().Energy.Simulated && !slices.Contains(r.out.Notes, note) {
		r.out.Notes = append(r.out.Notes, note)
	}
	if r.Keep != nil {
		if err := r.Keep(name, run); err != nil {
			return p, err
		}
	}
	switch {
	case run.Interrupted:
		return p, fmt.Errorf("interrupted")
	case run.Failure != "":
		return p, fmt.Errorf("%s", run.Failure)
	case p.Requests > 0 && p.Errors == p.Requests:
		return p, fmt.Errorf("at %s every request failed: %s", p.Load(), run.Exchanges[len(run.Exchanges)-1].Error)
	}
	kept := ""
	if p.Kept != nil && p.Kept.Share.Valid {
		kept = fmt.Sprintf(", %.1f %% kept the objectives", 100*p.Kept.Share.V)
	}
	r.Say("%s: %.3g tokens a second%s", p.Load(), p.TokensPerSecond.V, kept)
	return p, nil
}

// saturate is how long the closed loop runs that tells the server's capacity.
const saturate = 10 * time.Second

// knee searches the knee from the capacity that a closed loop of as many requests as there are slots shows.
func (r *runner) knee(ctx context.Context) error {
	if len(r.Objectives) == 0 {
		return ErrNoObjectives
	}
	spec := r.Spec
	spec.Rate, spec.Concurrency, spec.Requests = 0, max(r.Session.Server.Slots, 1), 0
	spec.Duration = replay.Seconds(min(saturate, r.Budget/probesBudget))
	full, err := r.point(ctx, "capacity", spec, false)
	if err != nil {
		return err
	}
	if !full.RequestsPerSecond.Valid {
		return fmt.Errorf("the capacity is not known: no request was answered in %s", time.Duration(spec.Duration))
	}
	n := 0
	k, err := FindKnee(ctx, full.RequestsPerSecond.V, func(ctx context.Context, rate float64) (kept, of int, more bool, err error) {
		n++
		spec := r.Spec
		spec.Concurrency, spec.Rate, spec.Requests = 0, rate, 0
		took := ProbeTime(rate, r.Objectives, r.Budget)
		spec.Duration = replay.Seconds(took)
		p, err := r.point(ctx, fmt.Sprintf("rate-%02d", n), spec, true)
		if err != nil {
			return 0, 0, false, err
		}
		return p.Kept.Met, p.Kept.Of, time.Since(r.began)+took*3/2 < r.Budget, nil
	})
	r.out.Knee = &k
	return err
}
