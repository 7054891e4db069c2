package console

import (
	"context"
	"slices"

	"github.com/valyala/fasthttp"
)

// maxConfigs is how many rows /api/configs answers.
const maxConfigs = 200

// configs answers the configurations, the latest first, with what changed in each.
func (s *Server) configs(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, "from", "to")
	if err != nil {
		return nil, err
	}
	from, to := p.moment("from"), p.moment("to")
	if p.err != nil {
		return nil, p.err
	}
	rows, err := s.cfg.Engine.Configs(c, maxConfigs)
	if err != nil {
		return nil, err
	}
	out := []inOrder{}
	for i, row := range rows {
		if row.At.Before(from) || !to.IsZero() && !row.At.Before(to) {
			continue
		}
		out = append(out, configEvent(rows[:i], row))
	}
	slices.Reverse(out)
	return out, nil
}
