package trace

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
)

// columnName is a column's name as it is compared: some files have spaces, some other capitals.
func columnName(s string) string { return strings.ToLower(strings.Trim(strings.TrimSpace(s), `"`)) }

// table reads a CSV file whose columns are found by their names.
type table struct {
	csv    *csv.Reader
	column map[string]int
	row    []string
	line   int
	above  int // lines of the file above the header
}

// newTable reads the header; every column of need must be there.
func newTable(lines *lineReader, need ...string) (*table, error) {
	t := &table{csv: csv.NewReader(lines.rest()), column: map[string]int{}, above: lines.n - 1}
	t.csv.ReuseRecord = true
	header, err := t.csv.Read()
	if err != nil {
		return nil, fmt.Errorf("its first line is no header of columns: %w", err)
	}
	for i, name := range header {
		t.column[columnName(name)] = i
	}
	for _, name := range need {
		if _, ok := t.column[columnName(name)]; !ok {
			return nil, fmt.Errorf("it has no column %s, only %s", name, strings.Join(header, ", "))
		}
	}
	return t, nil
}

// next reads the next row; io.EOF is the end.
func (t *table) next() (err error) {
	if t.row, err = t.csv.Read(); err == nil {
		t.line, _ = t.csv.FieldPos(0)
		t.line += t.above
	}
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("line %d does not have the columns of the first line: %w", e.Line+t.above, e.Err)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return readError(err)
	}
	return err
}

// text is a field, "" where there is no such column.
func (t *table) text(name string) string {
	i, ok := t.column[columnName(name)]
	if !ok {
		return ""
	}
	return strings.TrimSpace(t.row[i])
}

// tokens is a field that counts tokens.
func (t *table) tokens(name string) (int, error) {
	n, err := strconv.ParseFloat(t.text(name), 64) // some files write 374.0
	if err != nil || n != float64(int(n)) {
		return 0, fmt.Errorf("line %d has %q as %s, which is no number of tokens: the file is damaged, or its columns are others", t.line, t.text(name), name)
	}
	return int(n), nil
}

// readRows reads the rows of a CSV trace. more completes a record, which is then appended.
func (t *Trace) readRows(rows *table, input, output string, at func() (time.Duration, error), more func(*Record) error) error {
	for {
		if err := rows.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r := Record{Line: rows.line, Parent: -1}
		var err error
		if r.Input, err = rows.tokens(input); err != nil {
			return err
		}
		if r.Output, err = rows.tokens(output); err != nil {
			return err
		}
		if r.Offset, err = at(); err != nil {
			return fmt.Errorf("line %d %w", rows.line, err)
		}
		if ok, err := t.possible(&r); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := more(&r); err != nil {
			return fmt.Errorf("line %d %w", rows.line, err)
		}
		if err := t.room(len(t.Records)); err != nil {
			return err
		}
		t.Records = append(t.Records, r)
	}
}

// readAzure reads the Azure LLM inference traces of 2023 and 2024.
func (t *Trace) readAzure(lines *lineReader) error {
	rows, err := newTable(lines, "TIMESTAMP", "ContextTokens", "GeneratedTokens")
	if err != nil {
		return err
	}
	t.Clock = Clock{Unit: "date", Absolute: true}
	var first time.Time
	at := func() (time.Duration, error) {
		text := rows.text("TIMESTAMP")
		when, err := parseDate(text)
		if err != nil {
			return 0, err
		}
		if t.Clock.First == "" {
			first, t.Clock.First = when, text
		}
		return when.Sub(first), nil
	}
	return t.readRows(rows, "ContextTokens", "GeneratedTokens", at, func(*Record) error { return nil })
}

// parseDate reads 2023-11-16 18:17:03.9799600, or the same with T between or a zone behind.
func parseDate(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", time.RFC3339, "2006-01-02T15:04:05"} {
		if when, err := time.Parse(layout, text); err == nil {
			return when, nil
		}
	}
	return time.Time{}, fmt.Errorf("has the time %q, which is no date like 2023-11-16 18:17:03.97: the file mixes two clocks, or is damaged", text)
}

// readBurstGPT reads BurstGPT; newer files also have sessions and how long a reply took.
func (t *Trace) readBurstGPT(lines *lineReader) error {
	rows, err := newTable(lines, "Timestamp", "Request tokens", "Response tokens")
	if err != nil {
		return err
	}
	var clock *numericClock
	at := func() (time.Duration, error) {
		text := rows.text("Timestamp")
		if clock == nil {
			var err error
			if clock, err = newNumericClock(text, "s"); err != nil {
				return 0, err
			}
			t.Clock = clock.Clock
		}
		return clock.offset(text)
	}
	sessions := sessionList{}
	return t.readRows(rows, "Request tokens", "Response tokens", at, func(r *Record) error {
		took := time.Duration(0)
		if s, err := strconv.ParseFloat(rows.text("Elapsed time"), 64); err == nil && s > 0 {
			if took, err = period("Elapsed time", s, time.Second); err != nil {
				return err
			}
			r.Observed = &Observed{DurationUs: meter.Some(took.Microseconds())}
		}
		if name := rows.text("Session ID"); name != "" {
			sessions.add(t, r, name, took)
		}
		return nil
	})
}
