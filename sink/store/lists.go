package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

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
	lists, n int
	pieces   [][]uint32 // the numbers: one list of all would be copied as it grows
	counts   []int      // of the numbers by size class, once they are all there
}

// pieceLen is the length of a full piece. These are used again: new memory costs more than what is computed in it.
const pieceLen = 1 << 15

//nolint:gochecknoglobals // memory without a state
var pieces = sync.Pool{New: func() any { p := make([]uint32, 0, pieceLen); return &p }}

// piece returns the index of a piece with room for so many numbers.
func (l *listStats) piece(numbers int) int {
	last, size := len(l.pieces)-1, numbers
	if last >= 0 {
		if cap(l.pieces[last])-len(l.pieces[last]) >= numbers {
			return last
		}
		size = max(numbers, min(2*cap(l.pieces[last]), pieceLen))
	}
	var p []uint32
	if size == pieceLen {
		p = *pieces.Get().(*[]uint32) //nolint:forcetypeassert // it has nothing else
	} else {
		p = make([]uint32, 0, size)
	}
	l.pieces = append(l.pieces, p)
	return last + 1
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
	at := l.piece(len(list) / 2) // more than it can have
	before := len(l.pieces[at])
	var err error
	if l.pieces[at], err = appendList(l.pieces[at], list); err != nil {
		return fmt.Errorf("list_stats: %.40q is not a list of numbers up to %d", list, uint32(math.MaxUint32))
	}
	l.lists, l.n = l.lists+1, l.n+len(l.pieces[at])-before
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
func (l *listStats) WindowInverse(*sqlite.FunctionContext, []driver.Value) error { return errWindow }

// WindowValue returns the object, null without numbers.
func (l *listStats) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	if l.n == 0 {
		return nil, nil
	}
	stats := l.stats()
	delete(stats, "requests")
	b, err := json.Marshal(stats)
	return string(b), err
}

func (l *listStats) stats() map[string]any {
	l.counts = nil // in a running sum more numbers may have come
	zeros, largest := 0, uint32(0)
	for _, p := range l.pieces {
		for _, v := range p {
			if v == 0 {
				zeros++
			}
			largest = max(largest, v)
		}
	}
	return map[string]any{
		"requests": l.lists, "n": l.n, "zeros": zeros, "max": largest, "p50": l.quantile(0.5), "p90": l.quantile(0.9), "p99": l.quantile(0.99),
	}
}

// quantile is as columnar.Quantile. It counts the numbers by size class and looks for the two nearest to it only
// among those of their classes.
func (l *listStats) quantile(p float64) float64 {
	if l.counts == nil {
		l.counts = make([]int, sizeClass(math.MaxUint32)+1)
		for _, p := range l.pieces {
			for _, v := range p {
				l.counts[sizeClass(v)]++
			}
		}
	}
	at := p * float64(l.n-1)
	low := int(at)
	first, before := 0, 0 // the class of the number at low in order, and how many numbers have a smaller one
	for before+l.counts[first] <= low {
		before += l.counts[first]
		first++
	}
	last := first
	if low+1 == before+l.counts[first] && low+1 < l.n { // the next number has another class
		for last++; l.counts[last] == 0; {
			last++
		}
	}
	var near []uint32
	for _, p := range l.pieces {
		for _, v := range p {
			if c := sizeClass(v); c == first || c == last {
				near = append(near, v)
			}
		}
	}
	slices.Sort(near)
	v := float64(near[low-before])
	if low+1 < l.n {
		v += (at - float64(low)) * (float64(near[low+1-before]) - v)
	}
	return v
}

// sizeClass is larger for a larger number, and the same for numbers that differ by less than a thousandth.
func sizeClass(v uint32) int {
	shift := max(0, bits.Len32(v)-11)
	return shift<<10 + int(v>>shift)
}

// Final releases the memory.
func (l *listStats) Final(*sqlite.FunctionContext) {
	for _, p := range l.pieces {
		if cap(p) == pieceLen {
			p = p[:0]
			pieces.Put(&p)
		}
	}
	l.pieces = nil
}

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
		if stats.n > 0 {
			all[key] = stats.stats()
		}
	}
	b, err := json.Marshal(all)
	return string(b), err
}

// Final releases the memory.
func (l listStatsBy) Final(ctx *sqlite.FunctionContext) {
	for _, stats := range l {
		stats.Final(ctx)
	}
}

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
