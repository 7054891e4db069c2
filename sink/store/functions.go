package store

import (
	"database/sql/driver"
	"fmt"
	"math"

	"modernc.org/sqlite"

	"wattline/sink/columnar"
)

// registerFunctions gives a driver the aggregates that SQLite lacks. All skip nulls and give null for no
// values:
//
//	quantile(x, p)   p-quantile, 0 <= p <= 1, interpolated linearly between the two nearest values
//	                 (ClickHouse: quantileExactInclusive(p)(x))
//	median(x)        quantile(x, 0.5)
//	p50(x), p90(x), p95(x), p99(x)
//	stddev(x)        sample standard deviation, null for fewer than two values (ClickHouse: stddevSamp)
//	list_stats(x)    of all the numbers in lists as gaps_us holds them: a JSON object of n, zeros, max, p50,
//	                 p90 and p99, as quantile has them
//	list_stats_by(key, x)  such an object for each key, and in it requests, the number of lists: an object by key
//	list_union(x)    of all the texts in lists as throttle holds them: once each, in order, joined by commas; "" for none
//	label(x, name)   the value of a label in labels x, null without it: no aggregate
func registerFunctions(d *sqlite.Driver) error {
	fixed := map[string]float64{"median": 0.5, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
	for name, p := range fixed {
		if err := registerAggregate(d, name, 1, func() aggregate { return &quantile{p: p} }); err != nil {
			return err
		}
	}
	if err := registerAggregate(d, "quantile", 2, func() aggregate { return &quantile{p: math.NaN()} }); err != nil {
		return err
	}
	if err := registerLists(d); err != nil {
		return err
	}
	return registerAggregate(d, "stddev", 1, func() aggregate { return &stddev{} })
}

// aggregate is one evaluation of one of the functions above.
type aggregate interface {
	add(x float64, args []driver.Value) error
	value() (driver.Value, error)
}

func registerAggregate(d *sqlite.Driver, name string, args int32, start func() aggregate) error {
	err := d.RegisterFunction(name, &sqlite.FunctionImpl{
		NArgs:         args,
		Deterministic: true,
		MakeAggregate: func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return adapter{name, start()}, nil },
	})
	if err != nil {
		return fmt.Errorf("store: register %s: %w", name, err)
	}
	return nil
}

// adapter carries an aggregate through the driver's interface. It refuses sliding windows: no aggregate can
// remove a value.
type adapter struct {
	name string
	aggregate
}

func (a adapter) Step(_ *sqlite.FunctionContext, args []driver.Value) error {
	switch x := args[0].(type) {
	case nil:
		return nil
	case int64:
		return a.add(float64(x), args)
	case float64:
		return a.add(x, args)
	}
	return fmt.Errorf("%s: %v is not a number", a.name, args[0])
}

func (a adapter) WindowInverse(*sqlite.FunctionContext, []driver.Value) error {
	return fmt.Errorf("%s cannot be used with a sliding window", a.name)
}

func (a adapter) WindowValue(*sqlite.FunctionContext) (driver.Value, error) { return a.value() }
func (a adapter) Final(*sqlite.FunctionContext)                             {}

type quantile struct {
	p      float64 // NaN until the second argument was read
	values []float64
}

func (q *quantile) add(x float64, args []driver.Value) error {
	if len(args) == 2 {
		switch p := args[1].(type) {
		case float64:
			q.p = p
		case int64:
			q.p = float64(p)
		default:
			q.p = math.NaN()
		}
		if !(q.p >= 0 && q.p <= 1) {
			return fmt.Errorf("quantile: the second argument must lie between 0 and 1, not %v", args[1])
		}
	}
	q.values = append(q.values, x)
	return nil
}

func (q *quantile) value() (driver.Value, error) {
	if len(q.values) == 0 {
		return nil, nil
	}
	return columnar.Quantile(q.values, q.p), nil
}

// stddev is Welford's running variance.
type stddev struct{ n, mean, m2 float64 }

func (s *stddev) add(x float64, _ []driver.Value) error {
	s.n++
	d := x - s.mean
	s.mean += d / s.n
	s.m2 += d * (x - s.mean)
	return nil
}

func (s *stddev) value() (driver.Value, error) {
	if s.n < 2 {
		return nil, nil
	}
	return math.Sqrt(s.m2 / (s.n - 1)), nil
}
