package main

import (
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"wattline/meter"
	"wattline/sink/queries"
)

// absent is what people are shown where a value was not obtained. Machines get null.
const absent = "-"

// newTable is a table without lines, its numbers aligned to the right.
func newTable(w io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(header)
	return t
}

// rightAligned aligns the columns with these numbers, from 1, to the right.
func rightAligned(t table.Writer, columns ...int) {
	configs := make([]table.ColumnConfig, len(columns))
	for i, n := range columns {
		configs[i] = table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs(configs)
}

func orAbsent(s string) string {
	if s == "" {
		return absent
	}
	return s
}

// inUnit prints v/scale with three significant digits or all its whole ones, and the unit.
func inUnit(v meter.Int, scale float64, unit string) string {
	if !v.Valid {
		return absent
	}
	return significant(float64(v.V)/scale) + " " + unit
}

func ms(v meter.Int) string { return inUnit(v, 1e3, "ms") }

func count(v meter.Int) string {
	if !v.Valid {
		return absent
	}
	return strconv.FormatInt(v.V, 10)
}

// significant prints three significant digits, never an exponent, and never cuts whole ones.
func significant(f float64) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 3, 64), 64)
	if err != nil || rounded >= 1000 || rounded <= -1000 {
		rounded = f
		return strconv.FormatFloat(rounded, 'f', 0, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

func nullFloat(v sql.Null[float64]) string {
	if !v.Valid {
		return absent
	}
	return significant(v.V)
}

func nullInt(v sql.Null[int64]) string {
	if !v.Valid {
		return absent
	}
	return strconv.FormatInt(v.V, 10)
}

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
	return &tableResult{t: newTable(w, header...), numeric: make([]bool, len(columns))}, nil
}

// printRows writes a whole result.
func printRows(rows *sql.Rows, named func() []string, format string, w io.Writer) error {
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	if len(columns) == 0 {
		columns = named()
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
			values[i] = queries.Value(values[i])
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

// jsonResult writes one object a row, keys in the order of the columns.
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

// csvResult writes RFC 4180 with a header line; null is the empty field.
type csvResult struct{ w *csv.Writer }

func (c *csvResult) row(values []any) error {
	fields := make([]string, len(values))
	for i, v := range values {
		if v != nil {
			fields[i] = plain(v)
		}
	}
	return c.w.Write(fields)
}

func (c *csvResult) end() error {
	c.w.Flush()
	return c.w.Error()
}

// tableResult collects the rows, as a table's widths depend on all of them.
type tableResult struct {
	t       table.Writer
	numeric []bool
	rows    int
}

func (t *tableResult) row(values []any) error {
	cells := make(table.Row, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			cells[i] = absent
			continue
		case float64:
			cells[i] = significant(v)
		default:
			cells[i] = plain(v)
		}
		if _, isText := v.(string); !isText {
			t.numeric[i] = true
		}
	}
	t.t.AppendRow(cells)
	t.rows++
	return nil
}

func (t *tableResult) end() error {
	var right []int
	for i, numeric := range t.numeric {
		if numeric {
			right = append(right, i+1)
		}
	}
	rightAligned(t.t, right...)
	t.t.Render()
	return nil
}

// plain is a value of an SQL result as text that can be read back.
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
