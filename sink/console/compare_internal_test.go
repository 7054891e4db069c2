package console

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

type pairs struct {
	Runs
	asked int
	err   error
}

func (p *pairs) Compare(_ context.Context, a, b string) (any, error) {
	if p.asked++; p.err != nil || a == "" {
		return nil, p.err
	}
	return a + b, nil
}

type refusal struct{ error }

func (refusal) Incomparable() bool { return true }

// TestCompareStatus: a pair that cannot be compared is the caller's mistake, a file that cannot be read is not, and only one
// pair is compared at a time.
func TestCompareStatus(t *testing.T) {
	for _, c := range []struct {
		query  string
		err    error
		status int // 200: compared
		text   string
	}{
		{"a=x&b=y", nil, 200, "xy"},
		{"", nil, 404, "give a and b"},
		{"a=x&b=y&baseline=z", nil, 400, `no parameter "baseline" here, only a, b`},
		{"a=x&b=y", refusal{errors.New("other prompts")}, 400, "other prompts"},
		{"a=x&b=y", errors.New("input/output error"), 500, "input/output error"},
	} {
		s, ctx := New(Config{Runs: &pairs{err: c.err}}), &fasthttp.RequestCtx{}
		ctx.Request.SetRequestURI("/api/compare?" + c.query)
		v, err := s.compare(t.Context(), ctx)
		status, text := 200, ""
		if err != nil {
			status, text = s.explain(err, queryTimeout)
		} else {
			text = v.(string)
		}
		if status != c.status || !strings.Contains(text, c.text) || len(s.comparing) != 0 {
			t.Errorf("%s, %v: %d %s; %d still run", c.query, c.err, status, text, len(s.comparing))
		}
	}
	runs := &pairs{}
	s, ctx := New(Config{Runs: runs}), &fasthttp.RequestCtx{}
	s.comparing <- struct{}{} // another pair
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.compare(ended, ctx); !errors.Is(err, errCompareTime) || runs.asked != 0 {
		t.Error(err, runs.asked)
	}
}
