package columnar

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Table is a table, or a view of one, that a Source has as columns.
type Table struct {
	Base    string            // the table that has the rows
	At      string            // the column with a row's time
	Columns map[string]Kind   // columns of Base that are kept here
	Hidden  map[string]bool   // those of Columns that only expressions of the view may use
	Derived map[string]string // columns of a view that are computed: their expressions
	View    string            // the view's SELECT without a condition; "" for a table
}

// Block is some rows of a table: the values of the columns that were asked for.
type Block struct {
	Rows    int
	Columns []Vector
}

// Source has the tables' values.
type Source interface {
	// Table returns a table or view by its name in lower case, nil if it is not kept as columns.
	Table(name string) *Table
	// Scan calls f with every row whose time lies in [from, to] (microseconds since 1970), and maybe others. A block keeps
	// its values until f has been called with the next one and has returned. The rows come roughly in the order of their
	// times, or in reverse.
	Scan(ctx context.Context, t *Table, columns []string, from, to int64, reverse bool, f func(*Block) error) error
}

// ErrFault is a panic within Run, with its stack.
var ErrFault = errors.New("columnar: a fault in wattline")

// Key is a column that every table has: it names a row, but for the few rows where it is null.
const Key = "ship_seq"

// maxFound is the most rows that a list is narrowed to.
const maxFound = 10_000

// Answer is the result of a statement, or another statement that gives it.
type Answer struct {
	Columns []string
	Rows    [][]driver.Value
	SQL     string // not "": the caller is to run it instead, with the same parameters
}

// Run answers one statement. For a statement that it does not know the error is ErrUnsupported, for a fault of this package
// ErrFault. Parameters are nil, int64, float64 or string.
func Run(ctx context.Context, src Source, statement string, args []any) (a *Answer, err error) {
	sel, err := parse(statement, args)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := asError(recover()); e != nil {
			a, err = nil, e
		}
	}()
	return (&run{ctx: ctx, src: src}).selection(sel, statement)
}

// run is one statement's execution.
type run struct {
	ctx context.Context
	src Source
}

func (r *run) selection(sel *selection, statement string) (*Answer, error) {
	t := r.src.Table(sel.table)
	if t == nil {
		return nil, unsupported("table %s", sel.table)
	}
	if err := r.subqueries(sel); err != nil {
		return nil, err
	}
	s := newScan(t, sel)
	if len(sel.group) == 0 && !slices.ContainsFunc(sel.items, func(it item) bool { return it.expr != nil && aggregates(it.expr) }) {
		return r.find(s, sel, statement)
	}
	return r.summarize(s, sel)
}

func aggregates(e *expr) bool { return isAggregate(e.op) || slices.ContainsFunc(e.args, aggregates) }

// subqueries replaces each scalar subquery by its value.
func (r *run) subqueries(sel *selection) error {
	var all []*expr
	for _, it := range sel.items {
		all = append(all, it.expr)
	}
	for _, o := range sel.order {
		all = append(all, o.expr)
	}
	all = append(all, sel.where, sel.having)
	for _, e := range append(all, sel.group...) {
		if err := r.replace(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) replace(e *expr) error {
	if e == nil {
		return nil
	}
	if e.op == "select" {
		a, err := r.selection(e.sel, "")
		if err != nil {
			return err
		}
		if len(a.Columns) != 1 || len(a.Rows) != 1 {
			return unsupported("a subquery of several values")
		}
		*e = expr{op: "literal", value: a.Rows[0][0], text: e.text}
	}
	for _, arg := range e.args {
		if err := r.replace(arg); err != nil {
			return err
		}
	}
	return nil
}

// scan is the way from a table's columns to the rows that a condition chooses.
type scan struct {
	table    *Table
	program  *program
	names    []string // of the columns to read
	inputs   []*node  // the same columns
	sel      *selection
	pairs    *node // the column that makes a row of each pair
	key      *node
	value    *node
	where    *node
	from, to int64
	reverse  bool
}

func newScan(t *Table, sel *selection) *scan {
	s := &scan{table: t, sel: sel, from: math.MinInt64, to: math.MaxInt64}
	visible := true
	var column func(name string) *node
	column = func(name string) *node {
		if sel.pairs != "" {
			switch {
			case name == "l.key":
				return s.key
			case name == "l.value":
				return s.value
			case strings.EqualFold(name, sel.pairItem.alias):
				return s.program.compile(sel.pairItem.expr)
			}
		}
		name = strings.TrimPrefix(name, sel.table+".")
		if e, ok := t.Derived[name]; ok {
			visible = false // the view's expressions see all of the table
			defer func() { visible = true }()
			return s.program.compile(parseExpr(e))
		}
		if _, ok := t.Columns[name]; !ok || visible && t.Hidden[name] {
			panic(unsupported("column %s", name))
		}
		return s.input(name)
	}
	s.program = newProgram(column)
	if sel.pairs != "" {
		if t.Columns[sel.pairs] != Text {
			panic(unsupported("pairs of %s", sel.pairs))
		}
		s.pairs = s.input(sel.pairs)
		s.key, s.value = &node{out: Vector{Kind: Text}}, &node{out: Vector{Kind: Text}}
	}
	if sel.where != nil {
		s.where = s.program.compile(sel.where)
		if k := s.where.kind(); k != Int {
			panic(unsupported("a condition that is no truth value"))
		}
		s.bounds(sel.where)
	}
	return s
}

// input is the node of a column of the table.
func (s *scan) input(name string) *node {
	if i := slices.Index(s.names, name); i >= 0 {
		return s.inputs[i]
	}
	nd := &node{out: Vector{Kind: s.table.Columns[name]}}
	s.names, s.inputs = append(s.names, name), append(s.inputs, nd)
	return nd
}

// bounds narrows the times to read to those that the condition can hold for.
func (s *scan) bounds(e *expr) {
	if e.op == "and" {
		s.bounds(e.args[0])
		s.bounds(e.args[1])
		return
	}
	if len(e.args) != 2 || e.args[0].op != "column" || e.args[0].name != s.table.At || e.args[1].op != "literal" {
		return
	}
	text, ok := e.args[1].value.(string)
	if !ok {
		return
	}
	switch us, _ := moment(text); e.op {
	case ">=", ">":
		s.from = max(s.from, us)
	case "<=", "<":
		s.to = min(s.to, us)
	case "=":
		s.from, s.to = max(s.from, us), min(s.to, us)
	}
}

// each calls f with the rows of each block that the condition chooses, if any, when every expression is computed.
func (r *run) each(s *scan, f func(rows []int32) error) error {
	var rows, from []int32
	spare := make([]Vector, len(s.inputs))
	if len(s.names) == 0 {
		s.input(Key) // a block has as many rows as its columns
	}
	return r.scan(s, func(b *Block) error {
		n := b.Rows
		for i := range s.inputs {
			if got := b.Columns[i].Kind; got != s.inputs[i].kind() && got != None {
				return unsupported("column %s", s.names[i])
			}
			s.inputs[i].out = b.Columns[i]
		}
		if s.pairs != nil {
			from = spread(&s.pairs.out, n, &s.key.out, &s.value.out, from[:0])
			n = len(from)
			for i, in := range s.inputs {
				spare[i].take(&in.out, from)
				in.out = spare[i]
			}
		}
		s.program.run(n)
		rows = rows[:0]
		for i := range n {
			if s.where == nil || s.where.out.Ints[i] != 0 && !s.where.out.Null[i] {
				rows = append(rows, int32(i))
			}
		}
		if len(rows) == 0 {
			return nil
		}
		return f(rows)
	})
}

// summarize answers a statement with aggregates.
func (r *run) summarize(s *scan, sel *selection) (*Answer, error) {
	if sel.having != nil && len(sel.group) == 0 {
		return nil, unsupported("HAVING without GROUP BY")
	}
	g := newGroups(s, sel)
	items := make([]*node, len(sel.items))
	for i, it := range sel.items {
		if it.expr == nil {
			return nil, unsupported("* beside aggregates")
		}
		items[i] = g.after.compile(it.expr)
	}
	having, orders := g.rest()
	groups := make([]int32, 0, 4096)
	err := r.each(s, func(rows []int32) error {
		groups = g.assign(rows, groups[:0])
		for _, a := range g.aggregates {
			a.add(rows, groups, g.n)
		}
		for _, l := range g.lists {
			l.add(rows, groups, g.n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g.answer(items, having, orders), nil
}

// groups are the groups of rows, and what is computed of each.
type groups struct {
	sel        *selection
	scan       *scan
	keys       []*grouper
	n          int
	pairs      []map[uint64]int32 // from the number of a group by the first keys, and of the next key, to the group
	aggregates []aggregate
	results    []*node // of the aggregates
	lists      map[*node]*list
	after      *program // computes the result from keys and aggregates
	byKey      map[string]*node
}

func newGroups(s *scan, sel *selection) *groups {
	g := &groups{sel: sel, scan: s, lists: map[*node]*list{}, byKey: map[string]*node{}}
	if len(sel.group) == 0 {
		g.n = 1
	}
	for _, e := range sel.group {
		e = g.named(e)
		if aggregates(e) {
			panic(unsupported("a group by an aggregate"))
		}
		if _, ok := e.value.(int64); ok {
			panic(unsupported("a group by a number"))
		}
		nd := s.program.compile(e)
		g.keys = append(g.keys, newGrouper(nd))
		g.byKey[e.key()] = &node{out: Vector{Kind: nd.kind()}}
	}
	g.pairs = make([]map[uint64]int32, len(g.keys))
	g.after = newProgram(func(name string) *node {
		nd, ok := g.byKey["c:"+name]
		if !ok {
			panic(unsupported("column %s that is no group", name))
		}
		return nd
	})
	maps.Copy(g.after.known, g.byKey)
	g.after.special = func(e *expr) *node {
		if !isAggregate(e.op) {
			return nil
		}
		nd := &node{}
		a := newAggregate(s.program, e, g.lists)
		nd.out.Kind = a.result(0).Kind
		g.aggregates, g.results = append(g.aggregates, a), append(g.results, nd)
		return nd
	}
	return g
}

// named is what a name in GROUP BY, HAVING or ORDER BY stands for: a result column's expression.
func (g *groups) named(e *expr) *expr { return named(g.scan.table, g.sel, e) }

func named(t *Table, sel *selection, e *expr) *expr {
	if e.op != "column" {
		return e
	}
	for _, it := range sel.items {
		if strings.EqualFold(it.alias, e.name) && it.expr != nil {
			_, column := t.Columns[e.name]
			_, derived := t.Derived[e.name]
			if (column || derived) && it.expr.key() != e.key() {
				panic(unsupported("%s is both a column and a result", e.name))
			}
			return it.expr
		}
	}
	return e
}

// deep replaces the names inside an expression.
func deep(t *Table, sel *selection, e *expr) *expr {
	if e.op == "column" {
		return named(t, sel, e)
	}
	clone := *e
	clone.args = make([]*expr, len(e.args))
	for i, a := range e.args {
		clone.args[i] = deep(t, sel, a)
	}
	return &clone
}

// rest compiles HAVING and ORDER BY.
func (g *groups) rest() (having *node, orders []*node) {
	if g.sel.having != nil {
		if having = g.after.compile(deep(g.scan.table, g.sel, g.sel.having)); having.kind() != Int {
			panic(unsupported("a condition that is no truth value"))
		}
	}
	for _, o := range g.sel.order {
		e := deep(g.scan.table, g.sel, o.expr)
		if n, ok := e.value.(int64); ok && e.op == "literal" {
			if n < 1 || int(n) > len(g.sel.items) {
				panic(unsupported("ORDER BY %d", n))
			}
			e = g.sel.items[n-1].expr
		}
		orders = append(orders, g.after.compile(e))
	}
	return having, orders
}

// assign returns the group of each row.
func (g *groups) assign(rows, to []int32) []int32 {
	if len(g.keys) == 0 {
		return append(to, make([]int32, len(rows))...)
	}
	to = g.keys[0].assign(rows, to)
	if len(g.keys) == 1 {
		g.n = g.keys[0].n
		return to
	}
	var next []int32
	for k := 1; k < len(g.keys); k++ {
		next = g.keys[k].assign(rows, next[:0])
		if g.pairs[k] == nil {
			g.pairs[k] = map[uint64]int32{}
		}
		for i := range rows {
			pair := uint64(to[i])<<32 | uint64(next[i])
			id, ok := g.pairs[k][pair]
			if !ok {
				id = int32(len(g.pairs[k]))
				g.pairs[k][pair] = id
			}
			to[i] = id
		}
	}
	g.n = len(g.pairs[len(g.keys)-1])
	return to
}

// ids returns, for each group, the number of the k-th key's value.
func (g *groups) ids() [][]int32 {
	out := make([][]int32, len(g.keys))
	for k := range out {
		out[k] = make([]int32, g.n)
	}
	if len(g.keys) == 1 {
		for i := range out[0] {
			out[0][i] = int32(i)
		}
		return out
	}
	if len(g.keys) == 0 || g.n == 0 {
		return out
	}
	before := make([]int32, g.n) // the group by the keys up to k of each group
	for i := range before {
		before[i] = int32(i)
	}
	for k := len(g.keys) - 1; k > 0; k-- {
		pairs := make([]uint64, len(g.pairs[k]))
		for pair, id := range g.pairs[k] {
			pairs[id] = pair
		}
		for i, id := range before {
			out[k][i], before[i] = int32(pairs[id]&math.MaxUint32), int32(pairs[id]>>32)
		}
	}
	copy(out[0], before)
	return out
}

// answer computes the result columns, and puts the groups in order.
func (g *groups) answer(items []*node, having *node, orders []*node) *Answer {
	ids := g.ids()
	for k, e := range g.sel.group {
		v, from := &g.byKey[g.named(e).key()].out, &g.keys[k].values
		v.take(from, ids[k])
	}
	for i, a := range g.aggregates {
		g.results[i].out = a.result(g.n)
	}
	g.after.run(g.n)
	list := make([]int32, 0, g.n)
	for i := range g.n {
		if having == nil || having.out.Ints[i] != 0 && !having.out.Null[i] {
			list = append(list, int32(i))
		}
	}
	sortRows(list, orders, g.sel.order)
	if list = list[min(g.sel.offset, len(list)):]; g.sel.limit >= 0 {
		list = list[:min(g.sel.limit, len(list))]
	}
	a := &Answer{}
	for _, it := range g.sel.items {
		a.Columns = append(a.Columns, title(it))
	}
	for _, i := range list {
		row := make([]driver.Value, len(items))
		for c, nd := range items {
			row[c] = nd.out.value(int(i))
		}
		a.Rows = append(a.Rows, row)
	}
	return a
}

func title(it item) string {
	if it.alias != "" {
		return it.alias
	}
	if it.expr.op == "column" {
		return it.expr.name[strings.LastIndexByte(it.expr.name, '.')+1:]
	}
	return it.expr.text
}

// value is a value as the SQLite driver gives it.
func (v *Vector) value(i int) driver.Value {
	if v.Null[i] {
		return nil
	}
	switch v.Kind {
	case Float:
		if math.IsNaN(v.Floats[i]) {
			return nil
		}
		return v.Floats[i]
	case Text:
		return v.text(i)
	case Time:
		return time.UnixMicro(v.Ints[i]).UTC().Format(timeLayout)
	}
	return v.Ints[i]
}

// sortRows puts rows in the order of the nodes' values. Nulls come first, as in SQLite.
func sortRows(rows []int32, by []*node, how []order) {
	slices.SortStableFunc(rows, func(a, b int32) int {
		for i, nd := range by {
			if c := nd.out.compare(int(a), &nd.out, int(b)); c != 0 {
				if how[i].desc {
					return -c
				}
				return c
			}
		}
		return 0
	})
}

// compare orders the value at i and a value of another vector of the same kind.
func (v *Vector) compare(i int, w *Vector, j int) int {
	if v.Null[i] || w.Null[j] {
		return cmp.Compare(bit(w.Null[j]), bit(v.Null[i]))
	}
	switch v.Kind {
	case Float:
		return cmp.Compare(v.Floats[i], w.Floats[j])
	case Text:
		return strings.Compare(v.text(i), w.text(j))
	}
	return cmp.Compare(v.Ints[i], w.Ints[j])
}

// String shows a vector in failures of tests.
func (v *Vector) String() string {
	parts := make([]string, len(v.Null))
	for i := range parts {
		parts[i] = fmt.Sprint(v.value(i))
	}
	return strings.Join(parts, " ")
}
