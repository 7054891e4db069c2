package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"modernc.org/sqlite"
)

// listStats is the aggregate list_stats. It parses the lists itself: with json_each, which makes a row of each number,
// SQLite takes a hundred times as long.
type listStats struct{ values []uint32 }

func registerListStats(d *sqlite.Driver) error {
	err := d.RegisterFunction("list_stats", &sqlite.FunctionImpl{
		NArgs:         1,
		Deterministic: true,
		MakeAggregate: func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return &listStats{}, nil },
	})
	if err != nil {
		return fmt.Errorf("store: register list_stats: %w", err)
	}
	return nil
}

// Step adds the numbers of one list.
func (l *listStats) Step(_ *sqlite.FunctionContext, args []driver.Value) error {
	if args[0] == nil {
		return nil
	}
	list, ok := args[0].(string)
	if !ok {
		return fmt.Errorf("list_stats: %v is not a list of numbers", args[0])
	}
	var err error
	if l.values, err = appendList(l.values, list); err != nil {
		return fmt.Errorf("list_stats: %.40q is not a list of numbers up to %d", list, uint32(math.MaxUint32))
	}
	return nil
}

var errNoList = errors.New("not a list of numbers")

// appendList appends the numbers of a list as values.add writes it, "[1,2,3]".
func appendList(to []uint32, list string) ([]uint32, error) {
	if len(list) < 2 || list[0] != '[' || list[len(list)-1] != ']' {
		return to, errNoList
	}
	if list == "[]" {
		return to, nil
	}
	n, digits := uint64(0), 0
	for i := 1; i < len(list); i++ {
		switch c := list[i]; {
		case c >= '0' && c <= '9' && digits < 10:
			n, digits = 10*n+uint64(c-'0'), digits+1
		case (c == ',' || i == len(list)-1) && digits > 0 && n <= math.MaxUint32:
			to, n, digits = append(to, uint32(n)), 0, 0
		default:
			return to, errNoList
		}
	}
	return to, nil
}

// WindowInverse returns an error: numbers cannot be removed again.
func (l *listStats) WindowInverse(*sqlite.FunctionContext, []driver.Value) error {
	return errors.New("list_stats cannot be used with a sliding window")
}

// WindowValue returns the object, null without numbers.
func (l *listStats) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	v := l.values
	if len(v) == 0 {
		return nil, nil
	}
	slices.Sort(v)
	zeros, _ := slices.BinarySearch(v, 1)
	b, err := json.Marshal(map[string]any{
		"n": len(v), "zeros": zeros, "max": v[len(v)-1],
		"p50": quantileOf(v, 0.5), "p90": quantileOf(v, 0.9), "p99": quantileOf(v, 0.99),
	})
	return string(b), err
}

// Final has nothing to release.
func (l *listStats) Final(*sqlite.FunctionContext) {}
