package columnar

import (
	"encoding/json"
	"slices"
	"strings"
)

// Label is the value of one label of the JSON text of them all; "" without it.
func Label(labels, name string) string {
	if !strings.Contains(labels, name) && !strings.Contains(labels, `\`) {
		return ""
	}
	return pairsOf(labels)[name]
}

// pairsOf reads the JSON text of labels. A text that is no object of texts has none.
func pairsOf(labels string) (pairs map[string]string) {
	if json.Unmarshal([]byte(labels), &pairs) != nil {
		return nil
	}
	return pairs
}

// spread makes a row of each pair of each row's labels, and one row without a pair of a row that has none: rows says which of
// the n rows each comes from; it is appended to room.
func spread(labels *Vector, n int, key, value *Vector, room []int32) (rows []int32) {
	rows = room
	for _, v := range []*Vector{key, value} {
		*v = Vector{Kind: Text, Dict: v.Dict[:0], Null: v.Null[:0], Ints: v.Ints[:0]}
	}
	pairs := make([][]int64, len(labels.Dict)) // for each text of labels, indices of the dictionaries
	for code, text := range labels.Dict {
		found := pairsOf(text)
		names := make([]string, 0, len(found))
		for name := range found {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			pairs[code] = append(pairs[code], int64(len(key.Dict)))
			key.Dict, value.Dict = append(key.Dict, name), append(value.Dict, found[name])
		}
	}
	add := func(row int, pair int64, null bool) {
		rows = append(rows, int32(row))
		key.Null, key.Ints = append(key.Null, null), append(key.Ints, pair)
		value.Null, value.Ints = append(value.Null, null), append(value.Ints, pair)
	}
	for row := range n {
		if labels.Null[row] || len(pairs[labels.Ints[row]]) == 0 {
			add(row, 0, true)
			continue
		}
		for _, pair := range pairs[labels.Ints[row]] {
			add(row, pair, false)
		}
	}
	if len(key.Dict) == 0 {
		key.Dict, value.Dict = append(key.Dict, ""), append(value.Dict, "")
	}
	return rows
}

// take moves the values of the given rows to v.
func (v *Vector) take(from *Vector, rows []int32) {
	v.Kind, v.Dict = from.Kind, from.Dict
	v.resize(len(rows))
	for i, row := range rows {
		v.Null[i] = from.Null[row]
		if v.Kind == Float {
			v.Floats[i] = from.Floats[row]
		} else {
			v.Ints[i] = from.Ints[row]
		}
	}
}
