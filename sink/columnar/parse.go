package columnar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnsupported is returned for a statement that package columnar does not know, or that may be wrong: SQLite decides.
var ErrUnsupported = errors.New("columnar: not a statement for columns")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// expr is an expression: a column (op "column"), a literal (op "literal": nil, int64, float64 or string), a scalar
// subquery (op "select"), or an operator or function and its arguments.
type expr struct {
	op    string
	name  string // of a column, in lower case
	value any
	args  []*expr
	sel   *selection
	text  string // as written
}

// key is the same for equal expressions.
func (e *expr) key() string {
	switch e.op {
	case "column":
		return "c:" + e.name
	case "literal":
		return fmt.Sprintf("%T:%q", e.value, fmt.Sprint(e.value))
	case "select":
		return "(" + e.text + ")"
	}
	parts := make([]string, len(e.args))
	for i, a := range e.args {
		parts[i] = a.key()
	}
	return e.op + "(" + strings.Join(parts, ",") + ")"
}

// item is one result column. A nil expression is *.
type item struct {
	expr  *expr
	alias string // as written; "" without one
}

type order struct {
	expr *expr
	desc bool
}

// selection is a parsed SELECT.
type selection struct {
	items []item
	table string // in lower case
	// pairs has the key and value of each pair of this JSON column as columns l.key and l.value, a row for each pair: the
	// subquery SELECT table.*, pairName AS name FROM table LEFT JOIN json_each(table.pairs) AS l.
	pairs    string
	pairItem item

	where, having  *expr
	group          []*expr
	order          []order
	limit          int // -1: none
	offset         int
	fromAt, fromTo int // where the table's name stands in the text
	whereAt        int // where the condition begins and ends; 0 without one
	whereTo        int
}

type token struct {
	kind     byte // 'i' identifier, 'q' quoted identifier, 'n' number, 's' string, 'o' operator, '?' parameter, 0 end
	text     string
	from, to int
}

type parser struct {
	source string
	tokens []token
	at     int
	args   []any // of the parameters
	used   int   // of args
}

// parse reads one statement. Errors are ErrUnsupported. Mistakes in it are found by a panic with an error, so that the
// grammar below stays readable.
func parse(source string, args []any) (sel *selection, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(error)
			if !ok || !errors.Is(e, ErrUnsupported) {
				panic(r)
			}
			err = e
		}
	}()
	p := &parser{source: source, tokens: tokens(source), args: args}
	sel = p.selection()
	p.accept(";")
	if p.peek().kind != 0 || p.used != len(args) {
		panic(unsupported("text after the statement"))
	}
	return sel, nil
}

// parseExpr reads one expression.
func parseExpr(source string) *expr {
	p := &parser{source: source, tokens: tokens(source)}
	e := p.expr()
	if p.peek().kind != 0 {
		panic(unsupported("text after %s", source))
	}
	return e
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func tokens(s string) (out []token) {
	for i := 0; i < len(s); {
		from, c := i, s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case isLetter(c):
			for i < len(s) && (isLetter(s[i]) || isDigit(s[i]) || s[i] == '$') {
				i++
			}
			out = append(out, token{'i', s[from:i], from, i})
		case isDigit(c):
			for i < len(s) && (isDigit(s[i]) || s[i] == '.' || s[i]|0x20 == 'e' || (s[i] == '+' || s[i] == '-') && s[i-1]|0x20 == 'e') {
				i++
			}
			if i < len(s) && isLetter(s[i]) {
				panic(unsupported("a number"))
			}
			out = append(out, token{'n', s[from:i], from, i})
		case c == '\'' || c == '"':
			text, end := quoted(s, i)
			i = end
			out = append(out, token{map[byte]byte{'\'': 's', '"': 'q'}[c], text, from, i})
		case c == '?':
			i++
			if i < len(s) && isDigit(s[i]) {
				panic(unsupported("a numbered parameter"))
			}
			out = append(out, token{'?', "?", from, i})
		default:
			i++
			if two := s[from:min(from+2, len(s))]; two == "||" || two == "<=" || two == ">=" || two == "<>" || two == "!=" || two == "==" {
				i++
			} else if two == "--" || two == "/*" || !strings.ContainsRune("()+-*/,;=<>.", rune(c)) {
				panic(unsupported("%q", two))
			}
			out = append(out, token{'o', s[from:i], from, i})
		}
	}
	return append(out, token{0, "", len(s), len(s)})
}

// quoted reads a text in quotes that begins at i; a quote inside is doubled.
func quoted(s string, i int) (text string, end int) {
	q := s[i]
	var b strings.Builder
	for i++; i < len(s); i++ {
		if s[i] != q {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == q {
			i++
			b.WriteByte(q)
			continue
		}
		return b.String(), i + 1
	}
	panic(unsupported("an open quote"))
}

func (p *parser) peek() token { return p.tokens[p.at] }

// accept takes the next token if it is this operator or word (in capital letters).
func (p *parser) accept(word string) bool {
	t := p.peek()
	if (t.kind == 'o' || t.kind == 'i') && strings.EqualFold(t.text, word) {
		p.at++
		return true
	}
	return false
}

// acceptAll takes several words, or none.
func (p *parser) acceptAll(words ...string) bool {
	at := p.at
	for _, w := range words {
		if !p.accept(w) {
			p.at = at
			return false
		}
	}
	return true
}

func (p *parser) expect(words ...string) {
	if !p.acceptAll(words...) {
		panic(unsupported("%q instead of %s", p.peek().text, strings.Join(words, " ")))
	}
}

// reserved words are no names unless they are quoted.
const reserved = " select from where group order by having limit offset as on join left inner outer cross natural union except intersect " +
	"case when then else end and or not is null in between like glob match regexp distinct all exists cast collate with over filter window values using indexed isnull notnull escape asc desc nulls "

// name takes a name, in lower case.
func (p *parser) name() string {
	t := p.peek()
	if t.kind == 'q' || t.kind == 'i' && !strings.Contains(reserved, " "+strings.ToLower(t.text)+" ") {
		p.at++
		return strings.ToLower(t.text)
	}
	panic(unsupported("%q instead of a name", t.text))
}

func (p *parser) selection() *selection {
	s := &selection{limit: -1}
	p.expect("SELECT")
	for {
		s.items = append(s.items, p.item())
		if !p.accept(",") {
			break
		}
	}
	p.expect("FROM")
	p.from(s)
	if p.accept("WHERE") {
		s.whereAt = p.peek().from
		s.where = p.expr()
		s.whereTo = p.tokens[p.at-1].to
	}
	if p.acceptAll("GROUP", "BY") {
		s.group = p.list()
	}
	if p.accept("HAVING") {
		s.having = p.expr()
	}
	if p.acceptAll("ORDER", "BY") {
		for {
			o := order{expr: p.expr()}
			if o.desc = p.accept("DESC"); !o.desc {
				p.accept("ASC")
			}
			s.order = append(s.order, o)
			if !p.accept(",") {
				break
			}
		}
	}
	if p.accept("LIMIT") {
		s.limit = p.count()
		if p.accept("OFFSET") {
			s.offset = p.count()
		}
	}
	return s
}

func (p *parser) item() item {
	if p.accept("*") {
		return item{}
	}
	it := item{expr: p.expr()}
	if p.accept("AS") || p.peek().kind == 'q' || p.peek().kind == 'i' && !p.isReserved() {
		it.alias = p.peek().text
		p.name()
	}
	return it
}

func (p *parser) isReserved() bool {
	return strings.Contains(reserved, " "+strings.ToLower(p.peek().text)+" ")
}

// count is a whole number, or a parameter that is one.
func (p *parser) count() int {
	e := p.primary()
	if n, ok := e.value.(int64); ok && n >= 0 && n < 1<<31 {
		return int(n)
	}
	panic(unsupported("a limit that is not a number"))
}

func (p *parser) from(s *selection) {
	s.fromAt = p.peek().from
	if !p.accept("(") {
		s.table = p.name()
		s.fromTo = p.tokens[p.at-1].to
		if p.accept("AS") || p.peek().kind == 'i' && !p.isReserved() || p.peek().kind == 'q' || p.accept(",") {
			panic(unsupported("an alias of a table"))
		}
		return
	}
	p.expect("SELECT")
	table := p.name()
	p.expect(".")
	p.expect("*")
	p.expect(",")
	s.pairItem = p.item()
	p.expect("FROM")
	s.table = p.name()
	p.expect("LEFT", "JOIN", "JSON_EACH", "(")
	of := p.name()
	p.expect(".")
	s.pairs = p.name()
	p.expect(")", "AS", "L", ")")
	s.fromTo = p.tokens[p.at-1].to
	if table != s.table || of != s.table {
		panic(unsupported("a subquery of several tables"))
	}
}

func (p *parser) list() (list []*expr) {
	for {
		list = append(list, p.expr())
		if !p.accept(",") {
			return list
		}
	}
}

// expr and what follows are SQLite's levels of precedence, the loosest first.
func (p *parser) expr() *expr {
	from := p.peek().from
	e := p.chain(func() *expr { return p.chain(p.not, "AND") }, "OR")
	e.text = p.source[from:p.tokens[p.at-1].to]
	return e
}

// chain reads operands of the next tighter level, joined by operators of this level.
func (p *parser) chain(next func() *expr, ops ...string) *expr {
	e := next()
	for {
		found := false
		for _, op := range ops {
			if p.accept(op) {
				e, found = &expr{op: strings.ToLower(op), args: []*expr{e, next()}}, true
				break
			}
		}
		if !found {
			return e
		}
	}
}

func (p *parser) not() *expr {
	if p.accept("NOT") {
		return &expr{op: "not", args: []*expr{p.not()}}
	}
	return p.equality()
}

func (p *parser) equality() *expr {
	e := p.comparison()
	for {
		negated := p.accept("NOT")
		switch {
		case !negated && (p.accept("=") || p.accept("==")):
			e = &expr{op: "=", args: []*expr{e, p.comparison()}}
			continue
		case !negated && (p.accept("<>") || p.accept("!=")):
			e = &expr{op: "<>", args: []*expr{e, p.comparison()}}
			continue
		case !negated && p.acceptAll("IS", "NOT", "NULL"):
			e = &expr{op: "not", args: []*expr{{op: "isnull", args: []*expr{e}}}}
			continue
		case !negated && p.acceptAll("IS", "NULL"):
			e = &expr{op: "isnull", args: []*expr{e}}
			continue
		case p.accept("LIKE"):
			e = &expr{op: "like", args: []*expr{e, p.comparison()}}
		case p.accept("BETWEEN"):
			low := p.comparison()
			p.expect("AND")
			e = &expr{op: "and", args: []*expr{{op: ">=", args: []*expr{e, low}}, {op: "<=", args: []*expr{e, p.comparison()}}}}
		case p.accept("IN"):
			p.expect("(")
			e = oneOf(e, p.list())
			p.expect(")")
		default:
			if negated {
				panic(unsupported("NOT"))
			}
			return e
		}
		if negated {
			e = &expr{op: "not", args: []*expr{e}}
		}
	}
}

func oneOf(e *expr, list []*expr) (any *expr) {
	for _, x := range list {
		if x.op != "literal" || x.value == nil {
			panic(unsupported("IN of more than values"))
		}
		if is := (&expr{op: "=", args: []*expr{e, x}}); any == nil {
			any = is
		} else {
			any = &expr{op: "or", args: []*expr{any, is}}
		}
	}
	return any
}

func (p *parser) comparison() *expr { return p.chain(p.sum, "<=", "<", ">=", ">") }
func (p *parser) sum() *expr        { return p.chain(p.product, "+", "-") }
func (p *parser) product() *expr    { return p.chain(p.concat, "*", "/") }
func (p *parser) concat() *expr     { return p.chain(p.unary, "||") }

func (p *parser) unary() *expr {
	if p.accept("-") {
		e := p.unary()
		switch v := e.value.(type) {
		case int64:
			return &expr{op: "literal", value: -v}
		case float64:
			return &expr{op: "literal", value: -v}
		}
		return &expr{op: "-", args: []*expr{{op: "literal", value: int64(0)}, e}}
	}
	return p.primary()
}

func (p *parser) primary() *expr {
	t := p.peek()
	switch t.kind {
	case 'n':
		p.at++
		return &expr{op: "literal", value: number(t.text)}
	case 's':
		p.at++
		return &expr{op: "literal", value: t.text}
	case '?':
		p.at++
		if p.used >= len(p.args) {
			panic(unsupported("a missing parameter"))
		}
		p.used++
		return &expr{op: "literal", value: p.args[p.used-1]}
	}
	if p.accept("(") {
		if strings.EqualFold(p.peek().text, "SELECT") {
			from := p.peek().from
			e := &expr{op: "select", sel: p.selection()}
			e.text = p.source[from:p.tokens[p.at-1].to]
			p.expect(")")
			return e
		}
		e := p.expr()
		p.expect(")")
		return e
	}
	if p.accept("NULL") {
		return &expr{op: "literal"}
	}
	if p.accept("CASE") {
		return p.cases()
	}
	name := p.name()
	if t.kind == 'i' && p.accept("(") {
		return p.call(name)
	}
	if p.accept(".") {
		name += "." + p.name()
	}
	return &expr{op: "column", name: name}
}

func number(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !strings.ContainsAny(s, ".eE") { // of whole numbers beyond 64 bits, one is an integer behind a minus
		panic(unsupported("the number %s", s))
	}
	return f
}

func (p *parser) call(name string) *expr {
	e := &expr{op: name + "()"}
	if p.accept("*") {
		e.op += "*"
	} else if !p.accept(")") {
		e.args = p.list()
	} else {
		return e
	}
	p.expect(")")
	return e
}

// cases reads a CASE: its arguments are condition and value in turns, and the value else.
func (p *parser) cases() *expr {
	e := &expr{op: "case"}
	var of *expr
	if !strings.EqualFold(p.peek().text, "WHEN") {
		of = p.expr()
	}
	for p.accept("WHEN") {
		when := p.expr()
		if of != nil {
			when = &expr{op: "=", args: []*expr{of, when}}
		}
		p.expect("THEN")
		e.args = append(e.args, when, p.expr())
	}
	other := &expr{op: "literal"}
	if p.accept("ELSE") {
		other = p.expr()
	}
	p.expect("END")
	e.args = append(e.args, other)
	return e
}
