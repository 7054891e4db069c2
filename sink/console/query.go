package console

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"
	"modernc.org/sqlite"

	"wattline/sink/queries"
)

// Limits of one answer of /api/query. The time is that of `wattline query`.
const (
	queryTimeout  = time.Minute
	maxQueryRows  = 10000
	maxQueryBytes = 32 << 20
)

// queryAnswer is the answer of /api/query.
type queryAnswer struct {
	Name      string   `json:"name,omitempty"`
	SQL       string   `json:"sql"`
	Columns   []string `json:"columns"`
	Rows      [][]any  `json:"rows"`
	Truncated bool     `json:"truncated"` // there were more rows
	ElapsedUs int64    `json:"elapsed_us"`
}

// query runs a named query or one SELECT; without parameters it lists the named ones.
func (s *Server) query(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	p, err := parseParams(ctx, "name", "since", "label", "all", "sql", "show")
	if err != nil {
		return nil, err
	}
	name, text := p.text("name"), p.text("sql")
	switch {
	case name == "" && text == "" && !p.values.Has("sql"):
		type named struct {
			Name     string `json:"name"`
			Question string `json:"question"`
		}
		list := []named{}
		for _, q := range queries.All() {
			list = append(list, named{q.Name, q.Question})
		}
		return list, nil
	case (name == "") == (text == ""):
		return nil, badRequest("give either sql, such as SELECT model, count(*) FROM requests GROUP BY model, or name")
	case name != "":
		if text, err = namedQuery(p, s.cfg.Engine.Dialect); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	a := &queryAnswer{Name: name, SQL: text, Columns: []string{}, Rows: [][]any{}}
	if p.values.Has("show") {
		return a, nil
	}
	began := time.Now()
	err = a.run(c, s.cfg.Engine)
	a.ElapsedUs = time.Since(began).Microseconds()
	switch {
	case err == nil:
		return a, nil
	case c.Err() != nil:
		return nil, &failure{fasthttp.StatusGatewayTimeout, fmt.Sprintf("the query took longer than %v: narrow it (WHERE started_at >= ...)", queryTimeout)}
	default: // nearly always the statement is wrong
		return nil, badRequest("%v", s.cfg.Engine.Explain(err))
	}
}

func namedQuery(p *params, d queries.Dialect) (string, error) {
	q, err := queries.Find(p.text("name"))
	if err != nil {
		return "", err
	}
	with := queries.Params{Label: p.text("label"), All: !p.onlyWork(true)}
	if p.err != nil {
		return "", p.err
	}
	if since := p.text("since"); since != "" {
		if with.Since, err = queries.ParseSince(since, time.Now()); err != nil {
			return "", fmt.Errorf("since %w", err)
		}
	}
	return q.SQL(d, with)
}

func (a *queryAnswer) run(ctx context.Context, e *queries.Engine) (err error) {
	conn, err := e.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if e.Dialect == queries.SQLite {
		before, limitErr := sqlite.Limit(conn, limitLength, maxQueryBytes)
		if limitErr != nil {
			return limitErr
		}
		defer func() { err = errors.Join(err, unlimit(conn, before)) }()
	}
	rows, err := conn.QueryContext(ctx, a.SQL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	size := 0
	for rows.Next() {
		if a.Truncated = len(a.Rows) == maxQueryRows || size > maxQueryBytes; a.Truncated {
			break
		}
		cells, to := make([]any, len(names)), make([]any, len(names))
		for i := range cells {
			to[i] = &cells[i]
		}
		if err := rows.Scan(to...); err != nil {
			return err
		}
		for i := range cells {
			cells[i] = jsonable(queries.NormalizeValue(cells[i]))
			if text, ok := cells[i].(string); ok {
				size += len(text)
			}
		}
		a.Rows = append(a.Rows, cells)
	}
	if len(names) == 0 {
		names = queries.ColumnNames(ctx, e.DB, e.Dialect, a.SQL)
	}
	if names != nil {
		a.Columns = names
	}
	if a.Truncated {
		return nil // what follows is not read
	}
	return rows.Err()
}

// limitLength is SQLite's limit of a text, a blob and a row, in bytes (SQLITE_LIMIT_LENGTH). It is 1 GB by itself.
const limitLength = 0

func unlimit(conn *sql.Conn, before int) error {
	_, err := sqlite.Limit(conn, limitLength, before)
	return err
}

// jsonable makes null of numbers that JSON does not have.
func jsonable(v any) any {
	if f, ok := v.(float64); ok && (f != f || f-f != 0) {
		return nil
	}
	return v
}
