package columnar

import "math"

// grouper numbers the different values of an expression.
type grouper struct {
	of     *node
	values Vector // one for each number
	n      int
	null   int32 // the number of null, -1 before there is one
	ints   map[int64]int32
	floats map[uint64]int32
	texts  map[string]int32
	codes  []int32 // the number of each text of the block's dictionary, -1: not needed yet
}

func newGrouper(of *node) *grouper {
	return &grouper{of: of, values: Vector{Kind: of.kind()}, null: -1, ints: map[int64]int32{}, floats: map[uint64]int32{}, texts: map[string]int32{}}
}

// add numbers a new value.
func (g *grouper) add(null bool, n int64, f float64, s string) int32 {
	v := &g.values
	v.Null = append(v.Null, null)
	switch v.Kind {
	case Float:
		v.Floats = append(v.Floats, f)
	case Text:
		v.Ints, v.Dict = append(v.Ints, int64(len(v.Dict))), append(v.Dict, s)
	default:
		v.Ints = append(v.Ints, n)
	}
	g.n++
	return int32(g.n - 1)
}

func (g *grouper) assign(rows, to []int32) []int32 {
	v := &g.of.out
	if v.Kind == Text {
		g.codes = sized(g.codes, len(v.Dict))
		fill(g.codes, -1)
	}
	lastInt, lastFloat, last := int64(0), uint64(0), int32(-1)
	for _, row := range rows {
		if v.Null[row] {
			if g.null < 0 {
				g.null = g.add(true, 0, 0, "")
			}
			to = append(to, g.null)
			continue
		}
		var id int32
		var ok bool
		switch v.Kind {
		case Float:
			x := math.Float64bits(v.Floats[row] + 0) // -0 is 0
			if x == lastFloat && last >= 0 {
				id = last
				break
			}
			if id, ok = g.floats[x]; !ok {
				id = g.add(false, 0, v.Floats[row], "")
				g.floats[x] = id
			}
			lastFloat, last = x, id
		case Text:
			code := v.Ints[row]
			if id = g.codes[code]; id >= 0 {
				break
			}
			if id, ok = g.texts[v.Dict[code]]; !ok {
				id = g.add(false, 0, 0, v.Dict[code])
				g.texts[v.Dict[code]] = id
			}
			g.codes[code] = id
		default:
			x := v.Ints[row]
			if x == lastInt && last >= 0 {
				id = last
				break
			}
			if id, ok = g.ints[x]; !ok {
				id = g.add(false, x, 0, "")
				g.ints[x] = id
			}
			lastInt, last = x, id
		}
		to = append(to, id)
	}
	return to
}
