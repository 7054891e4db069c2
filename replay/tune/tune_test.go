package tune

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/replay"
)

// known is a server's --help.
func known() map[string]bool {
	return map[string]bool{
		"-np": true, "--parallel": true, "-b": true, "--batch-size": true, "-ub": true, "--ubatch-size": true, "--flash-attn": true, "-kvu": false, "--kv-unified": false,
		"-t": true, "--threads": true, "-ctk": true, "--cache-type-k": true,
	}
}

// TestSpace: only what the server's help has, in its own spelling, and drafts only with a draft model.
func TestSpace(t *testing.T) {
	names := func(known map[string]bool, given ...string) (out []string) {
		for _, k := range Space(known, given) {
			out = append(out, k.Name)
		}
		return out
	}
	if got := names(known()); !slices.Equal(got, []string{"slots", "batch sizes", "flash attention", "unified KV cache", "threads"}) {
		t.Errorf("%v", got)
	}
	more := known()
	more["--draft-max"], more["--kv-unified"] = true, true
	delete(more, "-kvu")
	if got := names(more); slices.Contains(got, "draft depth") || slices.Contains(got, "unified KV cache") {
		t.Errorf("a draft without a model, or a bare flag that takes a value: %v", got)
	}
	if got := names(more, "-md", "small.gguf"); !slices.Contains(got, "draft depth") {
		t.Errorf("%v", got)
	}
}

// TestApply: a change replaces what was given, in each spelling.
func TestApply(t *testing.T) {
	space := Space(known(), nil)
	set := func(name string, value int) Change {
		i := slices.IndexFunc(space, func(k *Knob) bool { return k.Name == name })
		return Change{space[i], value}
	}
	given := []string{"-m", "x.gguf", "--threads", "8", "--batch-size=512", "--kv-unified", "-np", "2"}
	c := Candidate{[]Change{set("batch sizes", 2), set("unified KV cache", 1), set("threads", 0), set("flash attention", 0)}}
	if got, want := strings.Join(c.Apply(given), " "), "-m x.gguf -np 2 -b 4096 -ub 1024 -t 1 --flash-attn on"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := c.String(); got != "-b 4096 -ub 1024 no --kv-unified -t 1 --flash-attn on" {
		t.Errorf("%q", got)
	}
}

// TestSearch: the planted best flags are found through noise, candidates that do not start are passed over and told, and
// objectives bind.
func TestSearch(t *testing.T) {
	space := Space(known(), nil)
	given := []string{"-m", "x"}
	truth := func(args []string) float64 { // tokens a joule
		s, v := strings.Join(args, " "), 1.0
		for flag, f := range map[string]float64{"-b 4096": 1.2, "--flash-attn on": 1.1, "-np 8": 0.7, "-np 4": 1.05, "-np 1": 0.8} {
			if strings.Contains(s+" ", flag+" ") {
				v *= f
			}
		}
		return v
	}
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		efforts := map[int]int{}
		r, err := Search(t.Context(), Config{
			Space: space, Given: given, Goal: TokensPerJoule, Say: func(string, ...any) {},
			Try: func(_ context.Context, c Candidate, effort int) (Score, error) {
				efforts[effort]++
				args := c.Apply(given)
				if strings.Contains(strings.Join(args, " "), "--flash-attn off") {
					return Score{}, errors.New("it ended before it was ready\nwith a long log")
				}
				noisy := truth(args) * math.Exp(0.02*rng.NormFloat64()/math.Sqrt(float64(effort)))
				return Score{TokensPerJoule: replay.Some(noisy), TokensPerSecond: replay.Some(1)}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Best == nil || truth(r.Best.Candidate.Apply(given)) < 1.3 {
			t.Errorf("seed %d: %+v", seed, r.Best)
		}
		if efforts[1] <= efforts[2] || efforts[2] < efforts[4] || efforts[4] == 0 {
			t.Errorf("efforts %v are not those of halving", efforts)
		}
		i := slices.IndexFunc(r.Tried, func(c *Tried) bool { return c.Failure != "" })
		if i < 0 || r.Tried[i].Failure != "it ended before it was ready" {
			t.Error("what did not start is not told")
		}
	}
}

func TestSearchEnds(t *testing.T) {
	space := Space(known(), nil)
	good := func(context.Context, Candidate, int) (Score, error) {
		return Score{TokensPerSecond: replay.Some(5)}, nil
	}
	r, err := Search(t.Context(), Config{Space: space, Goal: TokensPerJoule, Try: good, Say: func(string, ...any) {}})
	if err != nil || r.Goal != TokensPerSecond || len(r.Notes) != 1 || r.Best == nil || r.Best.Flags != "as given" {
		t.Errorf("no joules: %+v, %v", r, err)
	}
	r, err = Search(t.Context(), Config{Space: space, Goal: TokensPerSecond, Try: good, Say: func(string, ...any) {}, Budget: time.Second, Began: time.Now().Add(-time.Second)})
	if err != nil || r.Ended == "" || r.Best == nil || r.Tried[len(r.Tried)-1].Failure == "" {
		t.Errorf("no time: %+v, %v", r, err)
	}
	if _, err = Search(t.Context(), Config{Space: space, Goal: TTFT, Say: func(string, ...any) {}, Try: func(context.Context, Candidate, int) (Score, error) {
		return Score{}, errors.New("no model")
	}}); err == nil || !strings.Contains(err.Error(), "as given: no model") {
		t.Error(err)
	}
	slow := func(_ context.Context, c Candidate, _ int) (Score, error) {
		s := Score{TokensPerSecond: replay.Some(5), Kept: replay.Some(0.5)}
		if len(c.Changes) > 0 && c.Changes[0].Knob.Name == "slots" && c.Changes[0].Value == 0 {
			s = Score{TokensPerSecond: replay.Some(3), Kept: replay.Some(1)}
		}
		return s, nil
	}
	if r, err = Search(t.Context(), Config{Space: space, Goal: TokensPerSecond, Try: slow, Say: func(string, ...any) {}}); err != nil || r.Best == nil || r.Best.Flags != "-np 1" {
		t.Errorf("objectives: %+v, %v", r.Best, err)
	}
}

// TestBudget: the search leaves the proof its time, a candidate that hangs is cut off, what was better is tried together, and a
// score of an earlier round still counts when the budget ends.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const once = 10 * time.Second
		began := time.Now()
		var tried []string
		r, err := Search(t.Context(), Config{
			Space: Space(known(), nil), Goal: TokensPerSecond, Say: func(string, ...any) {}, Budget: 5 * time.Minute, Began: began,
			Try: func(ctx context.Context, c Candidate, effort int) (Score, error) {
				tried = append(tried, c.String())
				took := time.Duration(effort) * once
				if c.String() == "-np 1" {
					took = time.Hour // it hangs
				}
				if c.String() == "-np 4" || len(c.Changes) > 1 || c.String() == "-b 2048 -ub 512" {
					return Score{TokensPerSecond: replay.Some(float64(5 + len(c.Changes)))}, wait(ctx, took)
				}
				return Score{TokensPerSecond: replay.Some(5)}, wait(ctx, took)
			},
		})
		if err != nil || r.Ended == "" {
			t.Fatal(err, r)
		}
		if left := 5*time.Minute - time.Since(began); left < proofStarts*once || left > (proofStarts+2)*once {
			t.Errorf("%s are left for the proof: %v", left, tried)
		}
		if f := r.Tried[1].Failure; r.Tried[1].Flags != "-np 1" || f != "given up: not finished after 40s" {
			t.Errorf("what hangs: %q, %q", r.Tried[1].Flags, f)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r, err := Search(t.Context(), Config{
			Space: Space(known(), nil)[:2], Goal: TokensPerSecond, Say: func(string, ...any) {}, Budget: 10 * time.Minute, Began: began,
			Try: func(ctx context.Context, c Candidate, effort int) (Score, error) {
				v := 5.0
				for _, ch := range c.Changes {
					v += float64(ch.Value)
				}
				return Score{TokensPerSecond: replay.Some(v)}, wait(ctx, time.Duration(effort*effort)*20*time.Second)
			},
		})
		if err != nil || r.Best == nil || len(r.Best.Candidate.Changes) != 2 || r.Best.Failure != "" {
			t.Errorf("%v, %+v", err, r.Best)
		}
		if left := 10*time.Minute - time.Since(began); left < proofStarts*20*time.Second {
			t.Errorf("%s are left for the proof", left)
		}
	})
}

// TestBudgetOfTheFirst: where the flags as given take the whole budget, nothing was found out.
func TestBudgetOfTheFirst(t *testing.T) {
	for first, want := range map[time.Duration]bool{50 * time.Second: true, 10 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			r, err := Search(t.Context(), Config{
				Space: Space(known(), nil)[:2], Goal: TokensPerSecond, Say: func(string, ...any) {}, Budget: 2 * time.Minute, Began: time.Now(),
				Try: func(ctx context.Context, _ Candidate, effort int) (Score, error) {
					return Score{TokensPerSecond: replay.Some(5)}, wait(ctx, time.Duration(effort)*first)
				},
			})
			if err != nil || r.OnlyGiven() != want {
				t.Errorf("the first takes %s: %v, only given %t", first, err, r.OnlyGiven())
			}
		})
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// TestServes: a server that drops a cell which the flags as given serve is none to choose.
func TestServes(t *testing.T) {
	spec := replay.Spec{PromptSizes: replay.Sizes{100, 1000, 9000}, OutputTokens: replay.Sizes{8}, Tasks: []string{"coding"}, Trials: 1}
	plan := func(context int) *replay.Plan {
		p, err := replay.Compile(spec, "", context)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := Serves(plan(2000), plan(2000)); err != nil {
		t.Error(err)
	}
	if err := Serves(plan(500), plan(2000)); err == nil || !strings.Contains(err.Error(), "does not serve coding 1k x 8") {
		t.Error(err)
	}
	if err := Serves(plan(10000), plan(2000)); err != nil {
		t.Error(err)
	}
}
