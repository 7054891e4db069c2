package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"modernc.org/sqlite"

	"wattline/sink/columnar"
)

func registerLists(d *sqlite.Driver) error {
	aggregates := map[string]func(sqlite.FunctionContext) (sqlite.AggregateFunction, error){
		"list_stats":    func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return &listStats{}, nil },
		"list_stats_by": func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return listStatsBy{}, nil },
		"list_union":    func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return listUnion{}, nil },
	}
	for name, start := range aggregates {
		args := int32(1)
		if name == "list_stats_by" {
			args = 2
		}
		if err := d.RegisterFunction(name, &sqlite.FunctionImpl{NArgs: args, Deterministic: true, MakeAggregate: start}); err != nil {
			return fmt.Errorf("store: register %s: %w", name, err)
		}
	}
	err := d.RegisterFunction("label", &sqlite.FunctionImpl{NArgs: 2, Deterministic: true, Scalar: func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		labels, _ := args[0].(string)
		name, _ := args[1].(string)
		if v := columnar.Label(labels, name); v != "" {
			return v, nil
		}
		return nil, nil
	}})
	if err != nil {
		return fmt.Errorf("store: register label: %w", err)
	}
	return nil
}

// listStats is the aggregate list_stats. It parses the lists itself: with json_each, which makes a row of each number,
// SQLite takes a hundred times as long.
type listStats struct {
	lists  int
	values []uint32
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
	l.lists++
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
	if cap(to)-len(to) < len(list)/2 { // more numbers than it can have
		to = slices.Grow(to, max(len(to), len(list)/2)) // append alone grows long lists by a quarter
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
func (l *listStats) WindowInverse(*sqlite.FunctionContext, []driver.Value) error { return errWindow }

// WindowValue returns the object, null without numbers.
func (l *listStats) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	if len(l.values) == 0 {
		return nil, nil
	}
	stats := l.stats()
	delete(stats, "requests")
	b, err := json.Marshal(stats)
	return string(b), err
}

func (l *listStats) stats() map[string]any {
	zeros := 0
	for _, v := range l.values {
		if v == 0 {
			zeros++
		}
	}
	return map[string]any{
		"requests": l.lists, "n": len(l.values), "zeros": zeros, "max": slices.Max(l.values),
		"p50": columnar.Quantile(l.values, 0.5), "p90": columnar.Quantile(l.values, 0.9), "p99": columnar.Quantile(l.values, 0.99),
	}
}

// Final has nothing to release.
func (l *listStats) Final(*sqlite.FunctionContext) {}

var errWindow = errors.New("this aggregate cannot be used with a sliding window")

// listStatsBy is the aggregate list_stats_by: list_stats by a key, without the sorting of all lists that GROUP BY needs.
type listStatsBy map[string]*listStats

// Step adds the numbers of one list.
func (l listStatsBy) Step(ctx *sqlite.FunctionContext, args []driver.Value) error {
	key, ok := args[0].(string)
	if !ok {
		return fmt.Errorf("list_stats_by: the key %v is not a text", args[0])
	}
	if l[key] == nil {
		l[key] = &listStats{}
	}
	return l[key].Step(ctx, args[1:])
}

// WindowInverse returns an error.
func (l listStatsBy) WindowInverse(*sqlite.FunctionContext, []driver.Value) error { return errWindow }

// WindowValue returns the object.
func (l listStatsBy) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	all := map[string]any{}
	for key, stats := range l {
		if len(stats.values) > 0 {
			all[key] = stats.stats()
		}
	}
	b, err := json.Marshal(all)
	return string(b), err
}

// Final has nothing to release.
func (l listStatsBy) Final(*sqlite.FunctionContext) {}

// listUnion is the aggregate list_union: the lists, as written.
type listUnion map[string]bool

// Step adds a list.
func (l listUnion) Step(_ *sqlite.FunctionContext, args []driver.Value) error {
	if list, ok := args[0].(string); ok {
		l[list] = true
	}
	return nil
}

// WindowInverse returns an error.
func (l listUnion) WindowInverse(*sqlite.FunctionContext, []driver.Value) error { return errWindow }

// WindowValue returns the texts.
func (l listUnion) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	return columnar.Union(l), nil
}

// Final has nothing to release.
func (l listUnion) Final(*sqlite.FunctionContext) {}
