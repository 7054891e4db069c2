package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"wattline/meter"
)

// TimeLayout is how started_at and at are stored, always UTC: fixed width, so that text order is time
// order, and the same literal compares in SQLite and in ClickHouse.
const TimeLayout = "2006-01-02 15:04:05.000000"

// FieldText is a field, given by pointer as in Column.Ptr, as the store would write it; "" for null.
func FieldText(field any) (string, error) {
	var v values
	if err := v.add(field); err != nil || v.list[0].kind == isNull {
		return "", err
	}
	return fmt.Sprint(v.any(0)), nil
}

func literal(t time.Time) string { return t.UTC().Format(TimeLayout) }

// sqlType is the STRICT column type of a field, given by pointer.
func sqlType(field any) string {
	if _, ok := field.(*meter.Int); ok {
		return "INTEGER"
	}
	return "TEXT"
}

// cell reads one column of a result into a field, the inverse of values.add. Without a field it reads nothing.
type cell struct{ field any }

var _ sql.Scanner = (*cell)(nil)

// Scan implements sql.Scanner.
func (c *cell) Scan(v any) error {
	if v == nil || c.field == nil {
		return nil // a field that stays zero is null
	}
	if p, ok := c.field.(*meter.Int); ok {
		n, ok := v.(int64)
		if !ok {
			return fmt.Errorf("store: %v is not an integer", v)
		}
		*p = meter.Some(n)
		return nil
	}
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("store: %v is not text", v)
	}
	switch p := c.field.(type) {
	case *string:
		*p = s
	case *meter.Outcome:
		*p = meter.Outcome(s)
	case **meter.Details:
		*p = new(meter.Details)
		return (*p).UnmarshalText([]byte(s))
	case *time.Time:
		t, err := time.Parse(TimeLayout, s)
		*p = t
		return err
	default:
		return json.Unmarshal([]byte(s), c.field)
	}
	return nil
}
