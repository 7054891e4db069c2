package columnar

import (
	"slices"
	"strconv"
	"strings"
)

// find answers a list: it finds the first rows by ORDER BY, and returns the statement with these rows alone.
func (r *run) find(s *scan, sel *selection, statement string) (*Answer, error) {
	want := sel.limit + sel.offset
	if sel.limit < 0 || want > maxFound || len(sel.order) == 0 || sel.pairs != "" || statement == "" {
		return nil, unsupported("a list without a limit or an order")
	}
	first := deep(s.table, sel, sel.order[0].expr)
	if first.op == "column" && first.name == s.table.At && s.onlyTime(sel.where) {
		return nil, unsupported("a list by time: there is an index")
	}
	by := s.program.compile(first)
	s.reverse = sel.order[0].desc // the first block then has most of the rows of a list by time
	top := &top{by: []*node{by}, desc: []bool{sel.order[0].desc}, rows: make([]Vector, 1), want: want}
	if len(sel.order) > 1 { // a second order by time keeps the list of equal rows short
		if second := deep(s.table, sel, sel.order[1].expr); second.op == "column" && second.name == s.table.At {
			top.by, top.desc, top.rows = append(top.by, s.input(s.table.At)), append(top.desc, sel.order[1].desc), make([]Vector, 2)
		}
	}
	id := s.input(Key)
	if err := r.each(s, func(rows []int32) error { return top.add(rows, &id.out) }); err != nil {
		return nil, err
	}
	rows := "(" + Key + " IN (" + strings.Join(top.keys(), ",") + ") OR " + Key + " IS NULL)"
	if s.table.View == "" {
		if sel.where == nil {
			return &Answer{SQL: statement[:sel.fromTo] + " WHERE " + rows + " " + statement[sel.fromTo:]}, nil
		}
		return &Answer{SQL: statement[:sel.whereAt] + rows + " AND (" + statement[sel.whereAt:sel.whereTo] + ") " + statement[sel.whereTo:]}, nil
	}
	return &Answer{SQL: statement[:sel.fromAt] + "(" + s.table.View + " WHERE " + rows + ") AS " + sel.table + " " + statement[sel.fromTo:]}, nil
}

// onlyTime reports whether the condition is about the time alone.
func (s *scan) onlyTime(e *expr) bool {
	if e == nil || e.op == "column" && e.name == s.table.At || e.op == "literal" {
		return true
	}
	return e.op != "column" && !slices.ContainsFunc(e.args, func(a *expr) bool { return !s.onlyTime(a) })
}

// top keeps the rows that come first by the given orders, and all that equal the last of them: the statement's further orders
// decide between these.
type top struct {
	by   []*node
	desc []bool
	want int
	rows []Vector // the values so far, of each order
	ids  []int64
}

func (t *top) add(rows []int32, ids *Vector) error {
	if t.want == 0 {
		return nil
	}
	found := make([]*Vector, len(t.by))
	for i, nd := range t.by {
		found[i], t.rows[i].Kind = &nd.out, nd.out.Kind
	}
	limit := -1
	if len(t.ids) >= t.want {
		limit = t.want - 1 // the last of the rows that are wanted, in order since cut
	}
	for _, row := range rows {
		if limit >= 0 && t.compare(limit, found, int(row)) < 0 {
			continue
		}
		t.ids = append(t.ids, ids.Ints[row])
		for i, v := range found {
			t.rows[i].push(v, row)
		}
	}
	t.cut()
	if len(t.ids) > maxFound {
		return unsupported("a list with many equal rows")
	}
	return nil
}

// push appends a value of another vector. Each text gets a code of its own.
func (v *Vector) push(from *Vector, row int32) {
	v.Null = append(v.Null, from.Null[row])
	switch v.Kind {
	case Float:
		v.Floats = append(v.Floats, from.Floats[row])
	case Text:
		s := ""
		if !from.Null[row] {
			s = from.text(int(row))
		}
		v.Ints, v.Dict = append(v.Ints, int64(len(v.Dict))), append(v.Dict, s)
	default:
		v.Ints = append(v.Ints, from.Ints[row])
	}
}

// compare is negative where row a of those so far comes before row b of others.
func (t *top) compare(a int, others []*Vector, b int) int {
	for i := range t.rows {
		if c := t.rows[i].compare(a, others[i], b); c != 0 {
			if t.desc[i] {
				return -c
			}
			return c
		}
	}
	return 0
}

// cut sorts the rows and drops those after the wanted ones.
func (t *top) cut() {
	order := make([]int32, len(t.ids))
	for i := range order {
		order[i] = int32(i)
	}
	same := make([]*Vector, len(t.rows))
	for i := range t.rows {
		same[i] = &t.rows[i]
	}
	slices.SortStableFunc(order, func(a, b int32) int { return t.compare(int(a), same, int(b)) })
	keep := min(t.want, len(order))
	for keep < len(order) && keep > 0 && t.compare(int(order[keep]), same, int(order[keep-1])) == 0 {
		keep++
	}
	for i := range t.rows {
		var sorted Vector
		sorted.take(&t.rows[i], order[:keep])
		if sorted.Kind == Text {
			dict := make([]string, keep)
			for i := range dict {
				dict[i], sorted.Ints[i] = sorted.Dict[sorted.Ints[i]], int64(i)
			}
			sorted.Dict = dict
		}
		t.rows[i] = sorted
	}
	ids := make([]int64, keep)
	for i, o := range order[:keep] {
		ids[i] = t.ids[o]
	}
	t.ids = ids
}

func (t *top) keys() []string {
	out := make([]string, len(t.ids))
	for i, id := range t.ids {
		out[i] = strconv.FormatInt(id, 10)
	}
	return out
}
