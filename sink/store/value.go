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

// argument turns a field, given by pointer as in Column.Ptr, into what the driver binds: int64, string or
// nil for null.
func argument(field any) (any, error) {
	switch p := field.(type) {
	case *meter.Int:
		if !p.Valid {
			return nil, nil
		}
		return p.V, nil
	case *string:
		return textOrNull(*p), nil
	case *meter.Outcome:
		return textOrNull(string(*p)), nil
	case *time.Time:
		if p.IsZero() {
			return nil, nil
		}
		return literal(*p), nil
	case *map[string]string:
		return jsonOrNull(*p == nil, *p)
	case *[]string:
		return jsonOrNull(*p == nil, *p)
	case *[]int64:
		return jsonOrNull(*p == nil, *p)
	case *[]uint32:
		return jsonOrNull(*p == nil, *p)
	}
	return nil, fmt.Errorf("store: a column has a field of unknown type %T", field)
}

// Text is a field, given by pointer as in Column.Ptr, as the store would write it; "" for null.
func Text(field any) (string, error) {
	v, err := argument(field)
	if v == nil || err != nil {
		return "", err
	}
	return fmt.Sprint(v), nil
}

func literal(t time.Time) string { return t.UTC().Format(TimeLayout) }

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func jsonOrNull(null bool, v any) (any, error) {
	if null {
		return nil, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// sqlType is the STRICT column type of a field, given by pointer.
func sqlType(field any) string {
	if _, ok := field.(*meter.Int); ok {
		return "INTEGER"
	}
	return "TEXT"
}

// cell reads one column of a result into a field, the inverse of argument. Without a field it reads nothing.
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
	case *time.Time:
		t, err := time.Parse(TimeLayout, s)
		*p = t
		return err
	default:
		return json.Unmarshal([]byte(s), c.field)
	}
	return nil
}
