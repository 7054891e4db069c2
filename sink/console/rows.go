package console

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/meter"
	"wattline/sink/queries"
)

// The most rows of one answer, and how many without ?limit.
const (
	maxRows     = 10000
	defaultRows = 100
	maxIDs      = 1000
)

// rawRows are rows that are JSON already.
type rawRows [][]byte

// MarshalJSON joins them.
func (r rawRows) MarshalJSON() ([]byte, error) {
	return append(append([]byte{'['}, bytes.Join(r, []byte{','})...), ']'), nil
}

// requests answers a page of rows, or those that ?id= names.
func (s *Server) requests(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, append(filterParams(), "limit", "cursor", "columns", "sort", "id")...)
	if err != nil {
		return nil, err
	}
	if ids := p.values["id"]; len(ids) > 0 {
		if len(p.values) > 1 || len(ids) > maxIDs {
			return nil, badRequest("id stands alone, at most %d times", maxIDs)
		}
		return s.byID(c, ids)
	}
	list := queries.List{
		Filter: p.filter(time.Now(), false), Columns: p.list("columns"), Sort: p.text("sort"), Cursor: p.text("cursor"),
		Limit: p.number("limit", defaultRows, 1, maxRows),
	}
	if p.err != nil {
		return nil, p.err
	}
	if err := list.Check(); err != nil {
		return nil, badRequest("%v", err)
	}
	page, err := list.Read(c, s.cfg.Engine.DB, s.cfg.Engine.Dialect)
	if err != nil {
		return nil, err
	}
	if page.Next != "" {
		ctx.Response.Header.Set("X-Wattline-Next", page.Next)
	}
	return rawRows(page.Rows), nil
}

func (s *Server) byID(c context.Context, ids []string) (any, error) {
	rows := make([]*meter.Record, 0, len(ids))
	for _, id := range ids {
		rec, err := s.cfg.Rows.Find(c, id)
		if err != nil {
			return nil, err
		}
		if rec != nil {
			rows = append(rows, rec)
		}
	}
	return rows, nil
}

// sum answers what the chosen rows used together.
func (s *Server) sum(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, append(filterParams(), "by")...)
	if err != nil {
		return nil, err
	}
	f := p.filter(time.Now(), true)
	if p.err != nil {
		return nil, p.err
	}
	if err := queries.CheckSum(f, p.text("by")); err != nil {
		return nil, badRequest("%v", err)
	}
	return queries.Sums(c, s.cfg.Engine.DB, s.cfg.Engine.Dialect, f, p.text("by"))
}

// sessions answers the sums of sessions, the latest first.
func (s *Server) sessions(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, append(filterParams(), "limit", "cursor")...)
	if err != nil {
		return nil, err
	}
	f, limit := p.filter(time.Now(), true), p.number("limit", defaultRows, 1, queries.MaxSums)
	if p.err != nil {
		return nil, p.err
	}
	if err := queries.CheckSum(f, ""); err != nil {
		return nil, badRequest("%v", err)
	}
	list, next, err := queries.Sessions(c, s.cfg.Engine.DB, s.cfg.Engine.Dialect, f, limit, p.text("cursor"))
	if next != "" {
		ctx.Response.Header.Set("X-Wattline-Next", next)
	}
	return list, cursorFailure(err)
}

// cursorFailure makes a wrong cursor a bad request.
func cursorFailure(err error) error {
	if queries.IsCursorError(err) {
		return badRequest("%v", err)
	}
	return err
}

// usage answers as `wattline usage --json` does.
func (s *Server) usage(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, "by", "since", "all")
	if err != nil {
		return nil, err
	}
	by, since, all := p.text("by"), p.text("since"), !p.onlyWork(true)
	if p.err != nil {
		return nil, p.err
	}
	if by == "" {
		by = "agent"
	}
	if since == "" {
		since = "7d"
	}
	from, err := queries.ParseSince(since, time.Now())
	if err != nil {
		return nil, badRequest("since %v", err)
	}
	keys := strings.Split(by, ",")
	if err := queries.CheckUsage(keys...); err != nil {
		return nil, badRequest("%v", err)
	}
	u, err := queries.ReadUsage(c, s.cfg.Engine.DB, s.cfg.Engine.Dialect, queries.UsageOptions{By: keys, Since: from, All: all})
	if err != nil {
		return nil, err
	}
	return u.Lines(), nil
}

// inOrder is a JSON object with its keys in a fixed order.
type inOrder []field

type field struct {
	key   string
	value any
}

// nullable makes nil of an empty text, list or map, given by pointer as in a column's Ptr: they are null.
func nullable(ptr any) any {
	switch p := ptr.(type) {
	case *string:
		if *p == "" {
			return nil
		}
	case *[]string:
		if *p == nil {
			return nil
		}
	}
	return ptr
}

func text(ptr any) string {
	b, err := json.Marshal(ptr)
	if err != nil {
		return ""
	}
	return string(b)
}

// MarshalJSON writes it.
func (o inOrder) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		k, err := json.Marshal(f.key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, k...), ':'), v...)
	}
	return append(b, '}'), nil
}
