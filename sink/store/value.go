package store

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"wattline/meter"
)

// TimeLayout is how started_at and at are stored, always in UTC. The width is fixed, so text order is time
// order, and the same literal compares correctly in SQLite and in ClickHouse.
const TimeLayout = "2006-01-02 15:04:05.000000"

func literal(t time.Time) string { return t.UTC().Format(TimeLayout) }

// FieldText returns a field, given by pointer as in Column.Ptr, as the store writes it; "" for null.
func FieldText(field any) (string, error) {
	v, err := fieldValue(field)
	if err != nil || v == nil {
		return "", err
	}
	return fmt.Sprint(v), nil
}

// sqlType is the STRICT column type of a field, given by pointer.
func sqlType(field any) string {
	if _, ok := field.(*meter.Int); ok {
		return "INTEGER"
	}
	return "TEXT"
}

// fieldValue returns a field, given by pointer as in Column.Ptr, as the driver's type: nil, int64 or string.
// Lists and maps are JSON. An empty string, a zero time, a nil list or map and an invalid Int are null.
func fieldValue(field any) (driver.Value, error) {
	switch p := field.(type) {
	case *meter.Int:
		if p.Valid {
			return p.V, nil
		}
		return nil, nil
	case *string:
		return textOrNull(*p), nil
	case *meter.Outcome:
		return textOrNull(string(*p)), nil
	case *time.Time:
		if p.IsZero() {
			return nil, nil
		}
		return literal(*p), nil
	case **meter.Details:
		if *p == nil {
			return nil, nil
		}
		b, err := (*p).AppendText(nil)
		return string(b), err
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

func textOrNull(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

func jsonOrNull(null bool, v any) (driver.Value, error) {
	if null {
		return nil, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// arguments are the parameters of one statement; the memory is reused from row to row.
type arguments []driver.NamedValue

func (a *arguments) reset() { *a = (*a)[:0] }
func (a *arguments) add(v driver.Value) {
	*a = append(*a, driver.NamedValue{Ordinal: len(*a) + 1, Value: v})
}

// all returns these values alone.
func (a *arguments) all(values ...driver.Value) arguments {
	a.reset()
	for _, v := range values {
		a.add(v)
	}
	return *a
}

func (a *arguments) addField(field any) error {
	v, err := fieldValue(field)
	a.add(v)
	return err
}

// cell scans one column of a result into a field, the inverse of fieldValue. Without a field it ignores the value.
type cell struct{ field any }

var _ sql.Scanner = (*cell)(nil)

// Scan implements sql.Scanner.
func (c *cell) Scan(v any) error {
	if v == nil || c.field == nil {
		return nil // the zero value of a field is null
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
