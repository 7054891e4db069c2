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
	top := &top{by: by, desc: sel.order[0].desc, want: want}
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

// top keeps the rows with the greatest (or least) values, and all that equal the last of them: the statement's further
// orders decide between these.
type top struct {
	by   *node
	desc bool
	want int
	rows Vector // the values so far
	ids  []int64
}

func (t *top) add(rows []int32, ids *Vector) error {
	v := &t.by.out
	if t.rows.Kind = v.Kind; t.want == 0 {
		return nil
	}
	limit := -1
	if len(t.ids) >= t.want {
		limit = t.want - 1 // the last of the rows that are wanted, in order since cut
	}
	for _, row := range rows {
		if limit >= 0 && t.before(&t.rows, limit, v, int(row)) {
			continue
		}
		t.rows.Null, t.ids = append(t.rows.Null, v.Null[row]), append(t.ids, ids.Ints[row])
		switch v.Kind {
		case Float:
			t.rows.Floats = append(t.rows.Floats, v.Floats[row])
		case Text:
			s := ""
			if !v.Null[row] {
				s = v.text(int(row))
			}
			t.rows.Ints, t.rows.Dict = append(t.rows.Ints, int64(len(t.rows.Dict))), append(t.rows.Dict, s)
		default:
			t.rows.Ints = append(t.rows.Ints, v.Ints[row])
		}
	}
	t.cut()
	if len(t.ids) > maxFound {
		return unsupported("a list with many equal rows")
	}
	return nil
}

// before reports whether a comes before b by a clear difference.
func (t *top) before(v *Vector, a int, w *Vector, b int) bool {
	c := v.compare(a, w, b)
	return t.desc && c > 0 || !t.desc && c < 0
}

// cut sorts the rows and drops those after the wanted ones.
func (t *top) cut() {
	order := make([]int32, len(t.ids))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		c := t.rows.compare(int(a), &t.rows, int(b))
		if t.desc {
			return -c
		}
		return c
	})
	keep := min(t.want, len(order))
	for keep < len(order) && keep > 0 && t.rows.compare(int(order[keep]), &t.rows, int(order[keep-1])) == 0 {
		keep++
	}
	var sorted Vector
	sorted.take(&t.rows, order[:keep])
	if sorted.Kind == Text {
		dict := make([]string, keep)
		for i := range dict {
			dict[i], sorted.Ints[i] = sorted.Dict[sorted.Ints[i]], int64(i)
		}
		sorted.Dict = dict
	}
	ids := make([]int64, keep)
	for i, o := range order[:keep] {
		ids[i] = t.ids[o]
	}
	t.rows, t.ids = sorted, ids
}

func (t *top) keys() []string {
	out := make([]string, len(t.ids))
	for i, id := range t.ids {
		out[i] = strconv.FormatInt(id, 10)
	}
	return out
}
