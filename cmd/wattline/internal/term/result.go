// Package term prints results on a terminal: SQL results, lists of requests, the waterfall of one request, and usage.
package term

import (
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"wattline/replay/table"
	"wattline/sink/queries"
)

// resultWriter prints the rows of an SQL result.
type resultWriter interface {
	row(values []any) error
	end() error
}

func newResultWriter(format string, w io.Writer, columns []string) (resultWriter, error) {
	switch format {
	case "json":
		return &jsonResult{w, columns}, nil
	case "csv":
		c := csv.NewWriter(w)
		return &csvResult{c}, c.Write(columns)
	}
	header := make([]any, len(columns))
	for i, c := range columns {
		header[i] = c
	}
	return &tableResult{t: table.New(w, header...), numeric: make([]bool, len(columns))}, nil
}

// Rows prints an SQL result as table, json or csv, and closes rows. columnsOf returns the column names if rows has none.
func Rows(w io.Writer, rows *sql.Rows, columnsOf func() []string, format string) error {
	out := newAhead(w)
	err := errors.Join(readRows(out, rows, columnsOf, format), rows.Close())
	if written := out.close(); written != nil {
		return written
	}
	return err
}

func readRows(w io.Writer, rows *sql.Rows, columnsOf func() []string, format string) error {
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	if len(columns) == 0 {
		columns = columnsOf()
	}
	out, err := newResultWriter(format, w, columns)
	if err != nil {
		return err
	}
	values := make([]any, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		for i := range values {
			values[i] = queries.NormalizeValue(values[i])
		}
		if err := out.row(values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return out.end()
}

// jsonResult writes one object per row, with keys in the order of the columns.
type jsonResult struct {
	w       io.Writer
	columns []string
}

func (j *jsonResult) row(values []any) error {
	var b strings.Builder
	for i, name := range j.columns {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		if t, ok := values[i].(time.Time); ok {
			values[i] = t.UTC().Format("2006-01-02 15:04:05.000000")
		}
		value, err := json.Marshal(values[i])
		if err != nil {
			return fmt.Errorf("column %s: %w", name, err)
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(j.w, b.String())
	return err
}

func (j *jsonResult) end() error { return nil }

// csvResult writes CSV (RFC 4180) with a header line; null is an empty field, and a text that begins like a formula gets
// an apostrophe. Characters that would act on a terminal are escaped; JSON has every byte.
type csvResult struct{ w *csv.Writer }

func (c *csvResult) row(values []any) error {
	fields := make([]string, len(values))
	for i, v := range values {
		if v != nil {
			fields[i] = table.PrintableLines(SpreadsheetText(plain(v)))
		}
	}
	return c.w.Write(fields)
}

// SpreadsheetText is a CSV field that a spreadsheet does not run: names that clients send may begin like a formula, and
// then an apostrophe is put before them. Numbers stay.
func SpreadsheetText(field string) string {
	if field == "" || !strings.ContainsRune("=+-@\t\r", rune(field[0])) {
		return field
	}
	if _, err := strconv.ParseFloat(field, 64); err == nil {
		return field
	}
	return "'" + field
}

func (c *csvResult) end() error {
	c.w.Flush()
	return c.w.Error()
}

// tableResult collects the rows, because the column widths depend on all of them.
type tableResult struct {
	t       *table.Table
	numeric []bool
}

func (t *tableResult) row(values []any) error {
	cells := make([]any, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			cells[i] = table.Absent
			continue
		case float64:
			cells[i] = table.Number(v)
		default:
			cells[i] = plain(v)
		}
		if _, isText := v.(string); !isText {
			t.numeric[i] = true
		}
	}
	t.t.Row(cells...)
	return nil
}

func (t *tableResult) end() error {
	var right []int
	for i, numeric := range t.numeric {
		if numeric {
			right = append(right, i+1)
		}
	}
	t.t.AlignRight(right...)
	t.t.Render()
	return nil
}

// plain formats a value of an SQL result without loss.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.UTC().Format("2006-01-02 15:04:05.000000")
	}
	return fmt.Sprint(v)
}
