package columnar

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
)

// aggregate is one aggregate function of one expression. add takes the rows of a block: groups[i] is the group of row
// rows[i]. result makes a column with one value for each of n groups.
type aggregate interface {
	add(rows []int32, groups []int32, n int)
	result(n int) Vector
}

// quantiles are the aggregates with a fixed p.
var quantiles = map[string]float64{"median()": 0.5, "p50()": 0.5, "p90()": 0.9, "p95()": 0.95, "p99()": 0.99} //nolint:gochecknoglobals // a table

func isAggregate(op string) bool {
	switch op {
	case "count()", "count()*", "sum()", "avg()", "min()", "max()", "quantile()", "stddev()", "list_union()":
		return true
	}
	_, ok := quantiles[op]
	return ok
}

// newAggregate returns the aggregate of an expression, its argument compiled by p. Those that need all values share them, in
// lists.
func newAggregate(p *program, e *expr, lists map[*node]*list) aggregate {
	if e.op == "count()*" {
		return &count{}
	}
	if len(e.args) == 0 || len(e.args) > 1 && e.op != "quantile()" {
		panic(unsupported("%s of several values", e.op))
	}
	of := p.compile(e.args[0])
	switch e.op {
	case "count()":
		return &count{of: of}
	case "sum()":
		if numeric(of) == Int {
			return &wholeSum{of: of}
		}
		return &sum{of: of}
	case "avg()":
		return &sum{of: p.float(of), mean: true}
	case "stddev()":
		return &stddev{of: p.float(of)}
	case "min()", "max()":
		return &extreme{of: of, least: e.op == "min()"}
	case "list_union()":
		if of.kind() != Text {
			panic(unsupported("list_union of no text"))
		}
		return &union{of: of}
	}
	q, ok := quantiles[e.op]
	if !ok {
		if len(e.args) != 2 {
			panic(unsupported("quantile of one value"))
		}
		switch v := e.args[1].value.(type) {
		case float64:
			q = v
		case int64:
			q = float64(v)
		default:
			q = math.NaN()
		}
		if !(q >= 0 && q <= 1) {
			panic(unsupported("a quantile that is not between 0 and 1"))
		}
	}
	of = p.float(of)
	l := lists[of]
	if l == nil {
		l = &list{of: of}
		lists[of] = l
	}
	return &quantile{l, q}
}

// grown is s with at least n values.
func grown[T any](s []T, n int) []T {
	if len(s) >= n {
		return s
	}
	return append(s, make([]T, n-len(s))...)
}

type count struct {
	of *node // nil: count(*)
	n  []int64
}

func (c *count) add(rows, groups []int32, n int) {
	c.n = grown(c.n, n)
	if c.of == nil {
		for _, g := range groups {
			c.n[g]++
		}
		return
	}
	null := c.of.out.Null
	for i, row := range rows {
		if !null[row] {
			c.n[groups[i]]++
		}
	}
}

func (c *count) result(n int) Vector {
	return Vector{Kind: Int, Null: make([]bool, n), Ints: grown(c.n, n)}
}

// wholeSum is the sum of integers.
type wholeSum struct {
	of   *node
	sums []int64
	any  []bool
}

func (s *wholeSum) add(rows, groups []int32, n int) {
	s.sums, s.any = grown(s.sums, n), grown(s.any, n)
	null, x := s.of.out.Null, s.of.out.Ints
	for i, row := range rows {
		if null[row] {
			continue
		}
		g := groups[i]
		before := s.sums[g]
		s.sums[g] += x[row]
		if s.any[g] = true; (before^s.sums[g])&(x[row]^s.sums[g]) < 0 {
			panic(unsupported("a sum beyond 64 bits"))
		}
	}
}

func (s *wholeSum) result(n int) Vector {
	s.any = grown(s.any, n)
	v := Vector{Kind: Int, Null: make([]bool, n), Ints: grown(s.sums, n)}
	not64(v.Null, s.any)
	return v
}

func not64(to, from []bool) {
	for i := range to {
		to[i] = !from[i]
	}
}

// sum is the sum or mean of floating-point numbers. Each block is summed by itself first, which keeps the rounding small.
type sum struct {
	of          *node
	mean        bool
	sums, block []float64
	n           []int64
}

func (s *sum) add(rows, groups []int32, n int) {
	s.sums, s.block, s.n = grown(s.sums, n), grown(s.block, n), grown(s.n, n)
	null, x := s.of.out.Null, s.of.out.Floats
	for i, row := range rows {
		if !null[row] {
			s.block[groups[i]] += x[row]
			s.n[groups[i]]++
		}
	}
	for g, x := range s.block {
		s.sums[g] += x
		s.block[g] = 0
	}
}

func (s *sum) result(n int) Vector {
	s.sums, s.n = grown(s.sums, n), grown(s.n, n)
	v := Vector{Kind: Float, Null: make([]bool, n), Floats: s.sums}
	for g, count := range s.n[:n] {
		if v.Null[g] = count == 0; s.mean {
			v.Floats[g] /= float64(count)
		}
	}
	return v
}

// stddev is Welford's running variance.
type stddev struct {
	of          *node
	n, mean, m2 []float64
}

func (s *stddev) add(rows, groups []int32, n int) {
	s.n, s.mean, s.m2 = grown(s.n, n), grown(s.mean, n), grown(s.m2, n)
	null, x := s.of.out.Null, s.of.out.Floats
	for i, row := range rows {
		if null[row] {
			continue
		}
		g := groups[i]
		s.n[g]++
		d := x[row] - s.mean[g]
		s.mean[g] += d / s.n[g]
		s.m2[g] += d * (x[row] - s.mean[g])
	}
}

func (s *stddev) result(n int) Vector {
	s.n, s.m2 = grown(s.n, n), grown(s.m2, n)
	v := Vector{Kind: Float, Null: make([]bool, n), Floats: make([]float64, n)}
	for g := range n {
		if v.Null[g] = s.n[g] < 2; !v.Null[g] {
			v.Floats[g] = math.Sqrt(s.m2[g] / (s.n[g] - 1))
		}
	}
	return v
}

// extreme is the least or greatest value.
type extreme struct {
	of     *node
	least  bool
	any    []bool
	ints   []int64
	floats []float64
	texts  []string
}

func (e *extreme) add(rows, groups []int32, n int) {
	e.any, e.ints, e.floats, e.texts = grown(e.any, n), grown(e.ints, n), grown(e.floats, n), grown(e.texts, n)
	v := &e.of.out
	for i, row := range rows {
		if v.Null[row] {
			continue
		}
		g := groups[i]
		var less, greater bool
		switch v.Kind {
		case Float:
			less, greater = v.Floats[row] < e.floats[g], v.Floats[row] > e.floats[g]
		case Text:
			s := v.text(int(row))
			less, greater = s < e.texts[g], s > e.texts[g]
		default:
			less, greater = v.Ints[row] < e.ints[g], v.Ints[row] > e.ints[g]
		}
		if e.any[g] && !(e.least && less || !e.least && greater) {
			continue
		}
		e.any[g] = true
		switch v.Kind {
		case Float:
			e.floats[g] = v.Floats[row]
		case Text:
			e.texts[g] = v.text(int(row))
		default:
			e.ints[g] = v.Ints[row]
		}
	}
}

func (e *extreme) result(n int) Vector {
	e.any, e.ints, e.floats, e.texts = grown(e.any, n), grown(e.ints, n), grown(e.floats, n), grown(e.texts, n)
	v := Vector{Kind: e.of.kind(), Null: make([]bool, n), Ints: e.ints, Floats: e.floats}
	not64(v.Null, e.any)
	if v.Kind == Text {
		v.Dict = e.texts
		for g := range n {
			v.Ints[g] = int64(g)
		}
	}
	return v
}

// union is what is in any of the lists, once each, in order, joined by commas.
type union struct {
	of     *node
	groups []map[string]bool
}

func (u *union) add(rows, groups []int32, n int) {
	u.groups = grown(u.groups, n)
	for i, row := range rows {
		if u.of.out.Null[row] {
			continue
		}
		g := groups[i]
		if u.groups[g] == nil {
			u.groups[g] = map[string]bool{}
		}
		u.groups[g][u.of.out.text(int(row))] = true
	}
}

func (u *union) result(n int) Vector {
	u.groups = grown(u.groups, n)
	v := Vector{Kind: Text, Null: make([]bool, n), Ints: make([]int64, n), Dict: make([]string, n)}
	for g, lists := range u.groups {
		v.Ints[g], v.Dict[g] = int64(g), Union(lists)
	}
	return v
}

// Union is what is in any of the JSON lists of texts, once each, in order, joined by commas.
func Union(lists map[string]bool) string {
	var all []string
	for list := range lists {
		var texts []string
		if json.Unmarshal([]byte(list), &texts) == nil {
			all = append(all, texts...)
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}

// list holds all values of an expression, by group, for the quantiles of it.
type list struct {
	of     *node
	values [][]float64
}

func (l *list) add(rows, groups []int32, n int) {
	l.values = grown(l.values, n)
	null, x := l.of.out.Null, l.of.out.Floats
	for i, row := range rows {
		if null[row] {
			continue
		}
		values := l.values[groups[i]]
		if len(values) == cap(values) {
			values = slices.Grow(values, max(16, len(values))) // append alone grows long lists by a quarter
		}
		l.values[groups[i]] = append(values, x[row])
	}
}

type quantile struct {
	*list
	p float64
}

// add has nothing to do: the list is filled once for all quantiles of it.
func (q *quantile) add([]int32, []int32, int) {}

func (q *quantile) result(n int) Vector {
	q.values = grown(q.values, n)
	v := Vector{Kind: Float, Null: make([]bool, n), Floats: make([]float64, n)}
	for g, values := range q.values {
		if v.Null[g] = len(values) == 0; !v.Null[g] {
			v.Floats[g] = Quantile(values, q.p)
		}
	}
	return v
}

// Quantile is the p-quantile of values, at least one, interpolated linearly between the two nearest. It changes their order:
// finding two of them takes a fraction of the time of sorting all.
func Quantile[T float64 | uint32](values []T, p float64) float64 {
	at := p * float64(len(values)-1)
	low := int(at)
	nth(values, low)
	v := float64(values[low])
	if low+1 < len(values) {
		v += (at - float64(low)) * (float64(slices.Min(values[low+1:])) - v)
	}
	return v
}

// nth moves the value that is at index n in order there; before it are none that are greater, after it none that are less.
// It divides as quicksort does, by the median of three; what has become small, or is divided badly, is sorted.
func nth[T float64 | uint32](s []T, n int) {
	for tries := 0; len(s) > 32 && tries < 64; tries++ {
		a, b, c := s[0], s[len(s)/2], s[len(s)-1]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := 0, len(s)-1
		for i <= j {
			for s[i] < pivot {
				i++
			}
			for s[j] > pivot {
				j--
			}
			if i <= j {
				s[i], s[j] = s[j], s[i]
				i++
				j--
			}
		}
		switch {
		case n <= j:
			s = s[:j+1]
		case n >= i:
			s, n = s[i:], n-i
		default:
			return
		}
	}
	slices.Sort(s)
}
