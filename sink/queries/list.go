package queries

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// List is a page of requests.
type List struct {
	Filter  Filter
	Columns []string // of requests and of view efficiency; nil: all of requests
	Sort    string   // a column; "-" before it: descending; "": -started_at. Rows where it is null come last
	Limit   int
	Cursor  string // where an earlier page ended; "": from the beginning
}

// cursor is the last row of a page.
type cursor struct {
	Sort  string          `json:"s"`
	Value json.RawMessage `json:"v,omitempty"` // of the column; absent: null
	At    time.Time       `json:"t"`           // started_at: orders rows with the same value
	Seen  int             `json:"n"`           // rows with both that the pages so far had
}

// Page is what Read returns.
type Page struct {
	Rows [][]byte // JSON objects, their keys in the order of the columns
	Next string   // the cursor for the rows behind them; "": there are none
}

// Check returns an error for a list that cannot be asked for.
func (l List) Check() error {
	_, err := l.reader(SQLite)
	return err
}

// reader prepares the reading.
func (l List) reader(d Dialect) (*listReader, error) {
	columns, err := chooseColumns(l.Columns)
	if err != nil {
		return nil, err
	}
	if l.Sort == "" {
		l.Sort = "-started_at"
	}
	name, desc := strings.CutPrefix(l.Sort, "-")
	by, err := chooseColumns([]string{name})
	if err != nil {
		return nil, err
	}
	if by[0].kind == jsonColumn {
		return nil, fmt.Errorf("requests cannot be sorted by %s, which is a list", name)
	}
	r := &listReader{d: d, columns: columns, by: by[0], desc: desc, sort: l.Sort, page: &Page{Rows: [][]byte{}}}
	if r.where, err = l.Filter.where(d); err != nil {
		return nil, err
	}
	if l.Cursor != "" {
		if r.after, err = parseCursor(l.Cursor); err != nil {
			return nil, err
		}
		if r.after.Sort != l.Sort {
			return nil, errCursor
		}
		if _, err := r.literal(r.after.Value); r.after.Value != nil && err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Read reads the page.
func (l List) Read(ctx context.Context, db *sql.DB, d Dialect) (*Page, error) {
	r, err := l.reader(d)
	if err != nil {
		return nil, err
	}
	r.db = db
	after := r.after
	// First the rows that have the column, then those that do not.
	if after == nil || after.Value != nil || r.by.kind == timeColumn {
		if err := r.read(ctx, false, after, l.Limit+1); err != nil {
			return nil, err
		}
		after = nil
	}
	if r.by.null && len(r.page.Rows) <= l.Limit {
		if err := r.read(ctx, true, after, l.Limit+1-len(r.page.Rows)); err != nil {
			return nil, err
		}
	}
	if len(r.page.Rows) > l.Limit {
		r.page.Rows = r.page.Rows[:l.Limit]
		last := r.ends[l.Limit-1]
		last.Sort = r.sort
		text, err := json.Marshal(last)
		if err != nil {
			return nil, err
		}
		r.page.Next = base64.RawURLEncoding.EncodeToString(text)
	}
	return r.page, nil
}

var errCursor = errors.New("cursor is not one that an earlier answer with the same sort gave (X-Wattline-Next)")

// IsCursorError reports whether a cursor was wrong.
func IsCursorError(err error) bool { return errors.Is(err, errCursor) }

func parseCursor(s string) (*cursor, error) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	c := &cursor{}
	if err != nil || json.Unmarshal(text, c) != nil || c.At.IsZero() || c.Seen < 1 || c.Seen > maxSeen {
		return nil, errCursor
	}
	return c, nil
}

// same reports whether two rows have the same value and time.
func (c *cursor) same(o *cursor) bool { return c.At.Equal(o.At) && bytes.Equal(c.Value, o.Value) }

// listReader reads the parts of a page.
type listReader struct {
	d       Dialect
	db      *sql.DB
	columns []rowColumn
	by      rowColumn
	desc    bool
	sort    string // as asked for
	where   string
	after   *cursor // where the page begins; nil: at the beginning
	page    *Page
	ends    []cursor // by row
}

// maxSeen bounds the rows that are passed over again: rows with the same value that began in the same microsecond.
const maxSeen = 10000

// read appends rows that have the sorting column, or those that have it not.
func (r *listReader) read(ctx context.Context, null bool, after *cursor, limit int) error {
	var where []string
	if r.where != "" {
		where = append(where, r.where)
	}
	order, less := "", ">"
	if r.desc {
		order, less = " DESC", "<"
	}
	byTime := r.by.name == "started_at"
	sort := r.by.expr + order + ", "
	if byTime {
		sort = ""
	}
	switch {
	case null:
		where = append(where, r.by.expr+" IS NULL")
		order, less, sort = " DESC", "<", "" // the newest first
		if after != nil {
			where = append(where, "started_at <= "+literal(after.At))
		}
	case after != nil && byTime:
		where = append(where, fmt.Sprintf("started_at %s= %s", less, literal(after.At)))
	case after != nil:
		v, err := r.literal(after.Value)
		if err != nil {
			return err
		}
		where = append(where, fmt.Sprintf("(%[1]s %[2]s %[3]s OR %[1]s = %[3]s AND started_at %[2]s= %[4]s)", r.by.expr, less, v, literal(after.At)))
	case r.by.null:
		where = append(where, r.by.expr+" IS NOT NULL")
	}
	sort += "started_at" + order + ", id" + order
	items := make([]string, 0, len(r.columns)+2)
	for _, c := range r.columns {
		items = append(items, c.expr)
	}
	items = append(items, r.by.expr, "started_at")
	statement := "SELECT " + strings.Join(items, ", ") + " FROM requests"
	if len(where) > 0 {
		statement += " WHERE " + strings.Join(where, " AND ")
	}
	seen := 0
	if after != nil {
		seen = after.Seen
	}
	statement += " ORDER BY " + sort + " LIMIT " + strconv.Itoa(limit+seen)
	return r.run(ctx, statement, after)
}

// literal is the SQL of a cursor's value.
func (r *listReader) literal(v json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return text(r.d, s), nil
	}
	var n json.Number
	if json.Unmarshal(v, &n) != nil || n == "" {
		return "", errCursor
	}
	return n.String(), nil
}

// run appends a statement's rows behind those that after has seen.
func (r *listReader) run(ctx context.Context, statement string, after *cursor) (err error) {
	rows, err := r.db.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	cells := make([]any, len(r.columns)+2)
	for i := range cells {
		cells[i] = new(any)
	}
	var last *cursor // of the row before
	for rows.Next() {
		if err := rows.Scan(cells...); err != nil {
			return err
		}
		var end cursor
		if v := *cells[len(cells)-2].(*any); v != nil && r.by.kind != timeColumn {
			if end.Value, err = jsonValue(v, r.by.kind); err != nil {
				return err
			}
			if string(end.Value) == "null" {
				end.Value = nil
			}
		}
		if at := timeOf(*cells[len(cells)-1].(*any)); at != nil {
			end.At = *at
		}
		end.Seen = 1
		if last != nil && last.same(&end) {
			end.Seen = last.Seen + 1
		}
		if last = &end; after != nil && after.same(&end) && end.Seen <= after.Seen {
			continue
		}
		object, err := jsonObject(r.columns, cells)
		if err != nil {
			return err
		}
		r.page.Rows, r.ends = append(r.page.Rows, object), append(r.ends, end)
	}
	return rows.Err()
}

// jsonObject writes a row. cells are pointers to any.
func jsonObject(columns []rowColumn, cells []any) ([]byte, error) {
	b := make([]byte, 0, 32*len(columns))
	b = append(b, '{')
	for i, c := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, c.name)
		b = append(b, ':')
		v, err := jsonValue(*cells[i].(*any), c.kind)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		b = append(b, v...)
	}
	return append(b, '}'), nil
}

// jsonValue writes a value as it came from either engine.
func jsonValue(v any, kind columnKind) (json.RawMessage, error) {
	v = NormalizeValue(v)
	s, isText := v.(string)
	switch {
	case kind == timeColumn && isText:
		at, err := time.Parse("2006-01-02 15:04:05.999999", s)
		if err != nil {
			return json.Marshal(s)
		}
		v = at
	case kind == jsonColumn && isText:
		if slices.Contains([]string{"", "{}", "[]"}, s) { // ClickHouse has no null of these
			return json.RawMessage("null"), nil
		}
		if json.Valid([]byte(s)) {
			var b bytes.Buffer
			if err := json.Compact(&b, []byte(s)); err != nil {
				return nil, err
			}
			return b.Bytes(), nil
		}
	}
	return json.Marshal(v)
}
