// Package table prints aligned tables for a terminal, and numbers as people read them.
package table

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Absent is printed where a value was not obtained.
const Absent = "-"

// Table collects rows, as the widths of columns depend on all of them; Render prints it.
type Table struct {
	writer  pretty.Writer
	configs []pretty.ColumnConfig
}

// New is a table without lines. The columns of the header are aligned to the left.
func New(w io.Writer, header ...any) *Table {
	t := pretty.NewWriter()
	t.SetOutputMirror(w)
	style := pretty.StyleLight
	style.Options = pretty.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(PrintableArgs(header))
	return &Table{writer: t}
}

// NewNumeric returns a table of numbers, except for the first column.
func NewNumeric(w io.Writer, header ...any) *Table {
	t := New(w, header...)
	var right []int
	for i := 2; i <= len(header); i++ {
		right = append(right, i)
	}
	t.AlignRight(right...)
	return t
}

// AlignRight aligns the columns with these numbers, counted from 1, to the right, and all others to the left.
func (t *Table) AlignRight(columns ...int) {
	configs := make([]pretty.ColumnConfig, len(columns))
	for i, n := range columns {
		configs[i] = pretty.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.configs = configs
	t.writer.SetColumnConfigs(configs)
}

// Row appends a row, its texts as Printable has them. It may have fewer cells than the header.
func (t *Table) Row(cells ...any) { t.writer.AppendRow(PrintableArgs(cells)) }

// PrintableArgs makes those of a format's arguments Printable that are texts.
func PrintableArgs(cells []any) []any {
	out := make([]any, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case string:
			out[i] = Printable(c)
		case error, fmt.Stringer:
			out[i] = Printable(fmt.Sprint(c))
		default:
			out[i] = c
		}
	}
	return out
}

// FixWidths gives the columns least widths, so that tables that follow one another look like one, and leaves the header out
// of all but the first. Call it after AlignRight.
func (t *Table) FixWidths(header bool, widths ...int) {
	for i, width := range widths {
		at := slices.IndexFunc(t.configs, func(c pretty.ColumnConfig) bool { return c.Number == i+1 })
		if at < 0 {
			at = len(t.configs)
			t.configs = append(t.configs, pretty.ColumnConfig{Number: i + 1})
		}
		t.configs[at].WidthMin = width
	}
	t.writer.SetColumnConfigs(t.configs)
	if !header {
		t.writer.ResetHeaders()
	}
}

// Render prints the table.
func (t *Table) Render() { t.writer.Render() }

// nothing is below what any figure resolves: what rounding leaves of a difference of equal numbers.
const nothing = 1e-9

// Number prints three significant digits, never an exponent, and never rounds whole digits away.
func Number(f float64) string {
	if f < nothing && f > -nothing {
		return "0"
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 3, 64), 64)
	if err != nil || rounded >= 1000 || rounded <= -1000 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// OrAbsent is s, or a dash where it is empty.
func OrAbsent(s string) string {
	if s == "" {
		return Absent
	}
	return s
}
