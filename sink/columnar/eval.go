package columnar

import (
	"math"
	"math/bits"
	"slices"
	"strings"
)

// node is one expression of a program: an input, or computed from its arguments.
type node struct {
	out   Vector
	args  []*node
	eval  func(n int) // nil: an input
	fixed bool        // a literal: every value is the same
}

// program computes expressions for a block at a time. Equal expressions are computed once.
type program struct {
	column  func(name string) *node // the node of a column; panics if there is none
	special func(e *expr) *node     // the node of an expression that is not computed here, else nil; may be nil
	nodes   []*node                 // each after its arguments
	known   map[string]*node
	floats  map[*node]*node // the same as floating-point numbers
}

func newProgram(column func(name string) *node) *program {
	return &program{column: column, known: map[string]*node{}, floats: map[*node]*node{}}
}

// run computes every node for n rows. The inputs are there.
func (p *program) run(n int) {
	for _, nd := range p.nodes {
		if nd.eval == nil {
			continue
		}
		nd.out.resize(n)
		nd.eval(n)
	}
}

// compile returns the node of an expression. It panics with ErrUnsupported for what it does not know.
func (p *program) compile(e *expr) *node {
	if e.op == "column" {
		return p.column(e.name)
	}
	key := e.key()
	if nd, ok := p.known[key]; ok {
		return nd
	}
	nd := p.build(e)
	p.known[key] = nd
	p.nodes = append(p.nodes, nd)
	return nd
}

func (p *program) build(e *expr) *node {
	if e.op == "literal" {
		return constant(e.value)
	}
	if p.special != nil {
		if nd := p.special(e); nd != nil {
			return nd
		}
	}
	args := make([]*node, len(e.args))
	for i, a := range e.args {
		args[i] = p.compile(a)
	}
	nd := &node{args: args}
	switch e.op {
	case "+", "-", "*", "/":
		p.arithmetic(nd, e.op)
	case "=", "<>", "<", "<=", ">", ">=":
		p.comparison(nd, e.op)
	case "and", "or":
		nd.logic(e.op == "or")
	case "not":
		nd.truth(0)
		nd.out.Kind = Int
		nd.eval = func(int) { copy(nd.out.Null, args[0].out.Null); not(nd.out.Ints, args[0].out.Ints) }
	case "isnull":
		nd.out.Kind = Int
		nd.eval = func(int) {
			for i, null := range args[0].out.Null {
				nd.out.Null[i], nd.out.Ints[i] = false, bit(null)
			}
		}
	case "case":
		nd.cases()
	case "coalesce()", "ifnull()":
		nd.coalesce()
	case "nullif()":
		p.nullif(nd)
	case "||":
		nd.concat()
	case "like":
		nd.onText(Int, func(s string) (int64, bool) { return bit(like(lower(args[1].literalText()), lower(s))), true })
	case "floor()", "sqrt()", "abs()":
		p.unary(nd, e.op)
	case "substr()":
		nd.substr()
	case "label()":
		nd.label()
	default:
		panic(unsupported("%s", e.op))
	}
	return nd
}

// constant is a literal's node, computed like any other, for any number of rows.
func constant(v any) *node {
	nd := &node{fixed: true}
	switch v := v.(type) {
	case nil:
		nd.eval = func(int) { fill(nd.out.Null, true) }
	case int64:
		nd.out.Kind = Int
		nd.eval = func(int) { fill(nd.out.Null, false); fill(nd.out.Ints, v) }
	case float64:
		nd.out.Kind = Float
		nd.eval = func(int) { fill(nd.out.Null, false); fill(nd.out.Floats, v) }
	case string:
		nd.out.Kind, nd.out.Dict = Text, []string{v}
		nd.eval = func(int) { fill(nd.out.Null, false); fill(nd.out.Ints, 0) }
	default:
		panic(unsupported("a value of type %T", v))
	}
	return nd
}

func fill[T any](s []T, v T) {
	for i := range s {
		s[i] = v
	}
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// not is 1 where s is 0, else 0.
func not(to, s []int64) {
	for i, x := range s {
		to[i] = bit(x == 0)
	}
}

func (nd *node) kind() Kind { return nd.out.Kind }

func (nd *node) literalText() string {
	if !nd.fixed || nd.kind() != Text {
		panic(unsupported("a text that is not a literal"))
	}
	return nd.out.Dict[0]
}

// truth checks that argument i can be used as a condition.
func (nd *node) truth(i int) {
	if k := nd.args[i].kind(); k != Int && k != None {
		panic(unsupported("a condition that is no truth value"))
	}
}

// common is the kind that all nodes have, nulls aside.
func common(nodes ...*node) Kind {
	kind := None
	for _, n := range nodes {
		if k := n.kind(); kind == None {
			kind = k
		} else if k != None && k != kind {
			panic(unsupported("values of several types"))
		}
	}
	return kind
}

// float is the node as floating-point numbers.
func (p *program) float(of *node) *node {
	switch of.kind() {
	case Float:
		return of
	case Int, None:
	default:
		panic(unsupported("a text as a number"))
	}
	if nd, ok := p.floats[of]; ok {
		return nd
	}
	nd := &node{args: []*node{of}, out: Vector{Kind: Float}, fixed: of.fixed}
	nd.eval = func(int) {
		copy(nd.out.Null, of.out.Null)
		for i, x := range of.out.Ints {
			nd.out.Floats[i] = float64(x)
		}
	}
	p.nodes, p.floats[of] = append(p.nodes, nd), nd
	return nd
}

// nulls sets the node's nulls: where any argument is null.
func (nd *node) nulls(args ...*node) {
	copy(nd.out.Null, args[0].out.Null)
	for _, a := range args[1:] {
		if a.fixed && len(a.out.Null) > 0 && !a.out.Null[0] {
			continue
		}
		for i, null := range a.out.Null {
			nd.out.Null[i] = nd.out.Null[i] || null
		}
	}
}

func (p *program) arithmetic(nd *node, op string) {
	x, y := nd.args[0], nd.args[1]
	if numeric(x) == Int && numeric(y) == Int {
		nd.out.Kind = Int
		nd.eval = func(int) { nd.nulls(x, y); nd.whole(op, x.out.Ints, y.out.Ints) }
		return
	}
	x, y = p.float(x), p.float(y)
	nd.out.Kind = Float
	nd.eval = func(int) { nd.nulls(x, y); arithmetic(op, nd.out.Floats, x.out.Floats, y.out.Floats, nd.out.Null) }
}

// numeric is the kind of a number; a null counts as Int.
func numeric(n *node) Kind {
	switch n.kind() {
	case Int, None:
		return Int
	case Float:
		return Float
	}
	panic(unsupported("arithmetic with texts"))
}

func arithmetic(op string, out, x, y []float64, null []bool) {
	x, y, null = x[:len(out)], y[:len(out)], null[:len(out)]
	switch op {
	case "+":
		for i := range out {
			out[i] = x[i] + y[i]
		}
	case "-":
		for i := range out {
			out[i] = x[i] - y[i]
		}
	case "*":
		for i := range out {
			out[i] = x[i] * y[i]
		}
	case "/":
		for i := range out {
			if y[i] == 0 {
				null[i] = true
			} else {
				out[i] = x[i] / y[i]
			}
		}
	}
}

// whole is arithmetic of integers. Beyond 64 bits SQLite goes on with floating-point numbers; that is left to it.
func (nd *node) whole(op string, x, y []int64) {
	out, null := nd.out.Ints, nd.out.Null
	for i := range out {
		if null[i] {
			continue
		}
		a, b := x[i], y[i]
		ok := true
		switch op {
		case "+":
			out[i] = a + b
			ok = (a^out[i])&(b^out[i]) >= 0
		case "-":
			out[i] = a - b
			ok = (a^b)&(a^out[i]) >= 0
		case "*":
			high, low := bits.Mul64(magnitude(a), magnitude(b))
			out[i], ok = a*b, high == 0 && low < 1<<63
		case "/":
			if b == 0 {
				null[i] = true
			} else {
				out[i], ok = a/b, b != -1
			}
		}
		if !ok {
			panic(unsupported("an integer beyond 64 bits"))
		}
	}
}

func magnitude(x int64) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

func (p *program) unary(nd *node, op string) {
	if len(nd.args) != 1 {
		panic(unsupported("%s", op))
	}
	if op == "floor()" && numeric(nd.args[0]) == Int || op == "abs()" && numeric(nd.args[0]) == Int {
		panic(unsupported("%s of integers", op))
	}
	f := map[string]func(float64) float64{"floor()": math.Floor, "sqrt()": math.Sqrt, "abs()": math.Abs}[op]
	x := p.float(nd.args[0])
	nd.out.Kind = Float
	nd.eval = func(int) {
		nd.nulls(x)
		for i, v := range x.out.Floats {
			nd.out.Floats[i] = f(v)
			nd.out.Null[i] = nd.out.Null[i] || v < 0 && op == "sqrt()"
		}
	}
}

// logic is AND and OR with SQL's third value.
func (nd *node) logic(or bool) {
	nd.truth(0)
	nd.truth(1)
	nd.out.Kind = Int
	x, y := &nd.args[0].out, &nd.args[1].out
	nd.eval = func(n int) {
		for i := range n {
			a, b := x.Ints[i] != 0 && !x.Null[i], y.Ints[i] != 0 && !y.Null[i] // true
			c, d := x.Ints[i] == 0 && !x.Null[i], y.Ints[i] == 0 && !y.Null[i] // false
			yes, no := a && b, c || d
			if or {
				yes, no = a || b, c && d
			}
			nd.out.Ints[i], nd.out.Null[i] = bit(yes), !yes && !no
		}
	}
}

func (p *program) comparison(nd *node, op string) {
	nd.out.Kind = Int
	x, y := nd.args[0], nd.args[1]
	kx, ky := x.kind(), y.kind()
	switch {
	case kx == None || ky == None:
		nd.eval = func(int) { fill(nd.out.Null, true); fill(nd.out.Ints, 0) }
	case kx == Time && ky == Text && y.fixed:
		nd.whenTime(op, x, y.literalText())
	case kx == Time && ky == Time, kx == Int && ky == Int:
		nd.eval = func(int) { nd.nulls(x, y); compare(op, nd.out.Ints, x.out.Ints, y.out.Ints) }
	case kx == Text && ky == Text && y.fixed:
		with := y.literalText()
		nd.onText(Int, func(s string) (int64, bool) { return bit(holds(op, strings.Compare(s, with))), true })
	case kx == Text && ky == Text:
		nd.eval = func(n int) {
			nd.nulls(x, y)
			for i := range n {
				if !nd.out.Null[i] {
					nd.out.Ints[i] = bit(holds(op, strings.Compare(x.out.text(i), y.out.text(i))))
				}
			}
		}
	case (kx == Int || kx == Float) && (ky == Int || ky == Float):
		fx, fy := p.float(x), p.float(y)
		nd.eval = func(int) { nd.nulls(fx, fy); compare(op, nd.out.Ints, fx.out.Floats, fy.out.Floats) }
	default:
		panic(unsupported("a comparison of numbers and texts"))
	}
}

// holds tells whether op holds for a result of Compare.
func holds(op string, c int) bool {
	switch op {
	case "=":
		return c == 0
	case "<>":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

func compare[T int64 | float64](op string, out []int64, x, y []T) {
	x, y = x[:len(out)], y[:len(out)]
	switch op {
	case "=":
		for i := range out {
			out[i] = bit(x[i] == y[i])
		}
	case "<>":
		for i := range out {
			out[i] = bit(x[i] != y[i])
		}
	case "<":
		for i := range out {
			out[i] = bit(x[i] < y[i])
		}
	case "<=":
		for i := range out {
			out[i] = bit(x[i] <= y[i])
		}
	case ">":
		for i := range out {
			out[i] = bit(x[i] > y[i])
		}
	case ">=":
		for i := range out {
			out[i] = bit(x[i] >= y[i])
		}
	}
}

// timeLayout is the store's; the beginning of such a text is shorter.
const timeLayout = "2006-01-02 15:04:05.000000"

// choose takes, for each row, the value of one of the arguments.
func (nd *node) choose(from []*node, which func(i int) *node) {
	nd.out.Kind = common(from...)
	offsets := make([]int64, len(from))
	nd.eval = func(n int) {
		if nd.kind() == Text {
			nd.out.Dict = nd.out.Dict[:0]
			for i, a := range from {
				offsets[i] = int64(len(nd.out.Dict))
				nd.out.Dict = append(nd.out.Dict, a.out.Dict...)
			}
		}
		for i := range n {
			a := which(i)
			if nd.out.Null[i] = a.out.Null[i]; nd.out.Null[i] {
				continue
			}
			switch nd.kind() {
			case Float:
				nd.out.Floats[i] = a.out.Floats[i]
			case Text:
				nd.out.Ints[i] = a.out.Ints[i] + offsets[slices.Index(from, a)]
			default:
				nd.out.Ints[i] = a.out.Ints[i]
			}
		}
	}
}

func (nd *node) cases() {
	var conditions, values []*node
	for i := 0; i+1 < len(nd.args); i += 2 {
		nd.truth(i)
		conditions, values = append(conditions, nd.args[i]), append(values, nd.args[i+1])
	}
	values = append(values, nd.args[len(nd.args)-1])
	nd.choose(values, func(i int) *node {
		for j, c := range conditions {
			if c.out.Ints[i] != 0 && !c.out.Null[i] {
				return values[j]
			}
		}
		return values[len(values)-1]
	})
}

func (nd *node) coalesce() {
	if len(nd.args) < 2 {
		panic(unsupported("coalesce of one value"))
	}
	nd.choose(nd.args, func(i int) *node {
		for _, a := range nd.args {
			if !a.out.Null[i] {
				return a
			}
		}
		return nd.args[0]
	})
}

func (p *program) nullif(nd *node) {
	if len(nd.args) != 2 {
		panic(unsupported("nullif"))
	}
	x := nd.args[0]
	if x.kind() == Text {
		with := nd.args[1].literalText()
		nd.toText(func(s string) (string, bool) { return s, s != with })
		return
	}
	same := &node{args: nd.args}
	p.comparison(same, "=")
	p.nodes = append(p.nodes, same)
	nd.out.Kind = x.kind()
	nd.eval = func(n int) {
		copy(nd.out.Null, x.out.Null)
		if nd.kind() == Float {
			copy(nd.out.Floats, x.out.Floats)
		} else {
			copy(nd.out.Ints, x.out.Ints)
		}
		for i := range n {
			nd.out.Null[i] = nd.out.Null[i] || same.out.Ints[i] != 0 && !same.out.Null[i]
		}
	}
}
