package console

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/sink/queries"
)

// failure is an answer with an error status.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

func badRequest(format string, args ...any) error {
	return &failure{fasthttp.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// params are a request's parameters. Reading them collects the first error.
type params struct {
	values url.Values
	err    error
}

// parseParams reads the parameters, of which only the known ones may be there.
func parseParams(ctx *fasthttp.RequestCtx, known ...string) (*params, error) {
	values, err := url.ParseQuery(string(ctx.QueryArgs().QueryString()))
	if err != nil {
		return nil, badRequest("the query is malformed: %v", err)
	}
	for name, list := range values {
		if !slices.Contains(known, name) {
			return nil, badRequest("there is no parameter %q here, only %s", name, strings.Join(known, ", "))
		}
		for _, v := range list {
			if strings.ContainsRune(v, 0) {
				return nil, badRequest("%s holds a NUL character", name)
			}
		}
	}
	return &params{values: values}, nil
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = badRequest(format, args...)
	}
}

func (p *params) text(name string) string { return p.values.Get(name) }

// list splits a value at commas; nil without it.
func (p *params) list(name string) []string {
	if !p.values.Has(name) {
		return nil
	}
	return strings.Split(p.values.Get(name), ",")
}

func (p *params) number(name string, otherwise, least, most int) int {
	text := p.values.Get(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		p.fail("%s must be a number from %d to %d", name, least, most)
	}
	return n
}

// moment reads a time; the zero time without it.
func (p *params) moment(name string) (at time.Time) {
	text := p.values.Get(name)
	if text == "" {
		return at
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		p.fail("from and to are times like 2026-02-07T10:00:00Z, not %q", text)
	}
	return at
}

// duration reads a positive duration; 0 without it.
func (p *params) duration(name string) time.Duration {
	text := p.values.Get(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		p.fail("%s must be a duration such as 10s or 500ms, not %q", name, text)
	}
	return d
}

// joules reads an energy in J, kJ or Wh, in microjoules; 0 without it.
func (p *params) joules(name string) int64 {
	text := strings.TrimSpace(p.values.Get(name))
	if text == "" {
		return 0
	}
	number, factor := text, 1.0
	for _, u := range []struct {
		unit string
		j    float64
	}{{"kWh", 3.6e6}, {"mWh", 3.6}, {"Wh", 3600}, {"kJ", 1e3}, {"mJ", 1e-3}, {"J", 1}} {
		if n, ok := strings.CutSuffix(text, u.unit); ok {
			number, factor = strings.TrimSpace(n), u.j
			break
		}
	}
	j, err := strconv.ParseFloat(number, 64)
	if err != nil || !(j > 0) || j*factor > 1e12 {
		p.fail("%s must be an energy such as 50J, 1.2kJ or 0.5Wh, not %q", name, text)
		return 0
	}
	return max(1, int64(math.Round(j*factor*1e6)))
}

// onlyWork reads all=0 and all=1: whether housekeeping and replay's own requests are left out.
func (p *params) onlyWork(otherwise bool) bool {
	switch text := p.text("all"); {
	case !p.values.Has("all"):
		return otherwise
	case text == "0":
		return true
	case text != "1":
		p.fail("all must be 1 (housekeeping and replay's own requests too) or 0, not %q", text)
	}
	return false
}

// filterParams are the parameters that filter reads.
func filterParams() []string {
	return append(queries.FilterColumns(), "from", "to", "since", "label", "slower_than", "first_token_after", "dearer_than", "all")
}

// filter reads which requests are meant; work is what holds without all=.
func (p *params) filter(now time.Time, work bool) queries.Filter {
	f := queries.Filter{
		From: p.moment("from"), To: p.moment("to"), Equal: map[string][]string{},
		SlowerUs: p.duration("slower_than").Microseconds(), FirstUs: p.duration("first_token_after").Microseconds(), DearerUj: p.joules("dearer_than"),
		Work: p.onlyWork(work),
	}
	if since := p.text("since"); since != "" {
		if p.text("from") != "" {
			p.fail("give from or since, not both")
		}
		at, err := queries.ParseSince(since, now)
		if err != nil {
			p.fail("since %v", err)
		}
		f.From = at
	}
	for _, column := range queries.FilterColumns() {
		if p.values.Has(column) {
			f.Equal[column] = p.values[column]
		}
	}
	for _, pair := range p.values["label"] {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			p.fail("label must be k=v, not %q", pair)
			continue
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[k] = v
	}
	if !f.To.IsZero() && !f.From.Before(f.To) {
		p.fail("from must lie before to")
	}
	return f
}

// status is the HTTP status of an error, and the sentence.
func (s *Server) explain(err error, limit time.Duration) (status int, text string) {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status, f.text
	}
	if a, ok := errors.AsType[interface {
		error
		Ambiguous() bool
	}](err); ok && a.Ambiguous() {
		return fasthttp.StatusBadRequest, err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "interrupted") {
		return fasthttp.StatusGatewayTimeout, fmt.Sprintf("the rows could not be read within %v: choose fewer (from, to, a filter)", limit)
	}
	if s.cfg.Engine != nil {
		err = s.cfg.Engine.Explain(err)
	}
	return fasthttp.StatusInternalServerError, err.Error()
}
