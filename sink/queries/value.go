package queries

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// NormalizeValue brings a value that database/sql scanned from either engine into an any to one of nil, bool, int64,
// float64, string and time.Time (UTC). Lists and maps, which only ClickHouse has, become the JSON text that
// the store would hold. clickhouse-go gives some nullable texts as pointers, and unsigned counts.
func NormalizeValue(v any) any {
	if at, ok := v.(time.Time); ok {
		return at.UTC()
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Pointer:
		if r.IsNil() {
			return nil
		}
		return NormalizeValue(r.Elem().Interface())
	case reflect.Bool:
		return r.Bool()
	case reflect.String:
		return r.String()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int64(r.Uint())
	case reflect.Float32, reflect.Float64:
		return r.Float()
	case reflect.Slice:
		if b, ok := v.([]byte); ok {
			return string(b)
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
