package load

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/replay"
)

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		s := replay.Spec{PromptSizes: replay.Sizes{1000, 100000}, OutputTokens: replay.Sizes{16}, Requests: 3}
		var out said
		run, err := Run(t.Context(), Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Budget: time.Minute, Say: out.say})
		if err != nil {
			t.Fatal(err)
		}
		if len(run.Skipped) != 1 || run.Skipped[0].Cell.PromptTokens != 100000 || len(run.Exchanges) != 3 {
			t.Errorf("skipped %+v, %d exchanges", run.Skipped, len(run.Exchanges))
		}
		if !out.has("predicted duration") || !out.has("skipped: coding 100k x 16") || !out.has("--budget") {
			t.Errorf("the user was told:\n%s", strings.Join(out.lines, "\n"))
		}
	})
}

// 100k tokens at 1 ms each are 100 s, three of them 300 s: the prediction is made of two small requests.
func TestPrediction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		s := replay.Spec{PromptSizes: replay.Sizes{1000, 100000}, OutputTokens: replay.Sizes{101}, Requests: 3}
		r := &Runner{cfg: Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Say: func(string, ...any) {}}}
		if err := r.WarmUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range r.cfg.Plan.Cells {
			want := 3 * (float64(c.PromptTokens)/1000 + 1)
			if got := r.predict(c).Seconds(); math.Abs(got/want-1) > 0.05 {
				t.Errorf("%s is predicted to take %g s, it will take %g", c, got, want)
			}
		}
	})
}

// A server that compiles for 40 s before its first token is not predicted to do so each time.
func TestPredictionAfterSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &compiling{server: server{perToken: time.Millisecond, gap: 10 * time.Millisecond}}
		s := replay.Spec{PromptSizes: replay.Sizes{1000, 10000}, OutputTokens: replay.Sizes{101}, Requests: 3}
		r := &Runner{cfg: Config{Plan: plan(t, s), Sender: srv, Prompts: texts{}, Sleep: time.Sleep, Say: func(string, ...any) {}}}
		if err := r.WarmUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range r.cfg.Plan.Cells {
			want := 3 * (float64(c.PromptTokens)/1000 + 1)
			if got := r.predict(c).Seconds(); math.Abs(got/want-1) > 0.05 {
				t.Errorf("%s is predicted to take %g s, it will take %g", c, got, want)
			}
		}
	})
}

// compiling is a server that answers its first request after 40 s.
type compiling struct {
	server
	asked bool
}

func (c *compiling) Send(ctx context.Context, r *replay.Request) *replay.Exchange {
	first := !c.asked
	c.asked = true
	ex := c.server.Send(ctx, r)
	if first {
		ex.TTFTUs.V += 40e6
	}
	return ex
}
