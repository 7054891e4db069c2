package columnar

import (
	"math"
	"strings"
	"time"
)

// moment is the time that a text stands for. Texts compare byte by byte, so the beginning of a time is less than every time
// that begins so: it is no time of its own (whole false).
func moment(text string) (us int64, whole bool) {
	layout := timeLayout
	if len(text) == len("2006-01-02") {
		layout = timeLayout[:len(text)]
	}
	t, err := time.Parse(layout, text)
	if err != nil || t.Format(layout) != text {
		panic(unsupported("the time %q", text))
	}
	return t.UnixMicro(), layout == timeLayout
}

// whenTime compares a time with the text of one.
func (nd *node) whenTime(op string, x *node, text string) {
	us, whole := moment(text)
	if !whole {
		switch op {
		case ">":
			op = ">="
		case "<=":
			op = "<"
		case "=", "<>":
			panic(unsupported("a time equal to the beginning of one"))
		}
	}
	var with []int64
	nd.eval = func(n int) {
		nd.nulls(x)
		with = sized(with, n)
		fill(with, us)
		compare(op, nd.out.Ints, x.out.Ints, with)
	}
}

// onText makes the node a function of its first argument, a text. It is called once for each text of the block's dictionary;
// false is null.
func (nd *node) onText(kind Kind, f func(string) (int64, bool)) {
	x := nd.args[0]
	if x.kind() != Text {
		panic(unsupported("a number as a text"))
	}
	nd.out.Kind = kind
	var of []int64
	var known []bool
	nd.eval = func(n int) {
		if kind == Text {
			nd.out.Dict = nd.out.Dict[:0]
		}
		of, known = sized(of, len(x.out.Dict)), sized(known, len(x.out.Dict))
		for code, s := range x.out.Dict {
			of[code], known[code] = f(s)
		}
		for i := range n {
			nd.out.Null[i] = x.out.Null[i] || !known[x.out.Ints[i]]
			if !nd.out.Null[i] {
				nd.out.Ints[i] = of[x.out.Ints[i]]
			}
		}
	}
}

// toText makes the node a text that is computed from its first argument.
func (nd *node) toText(f func(string) (string, bool)) {
	nd.onText(Text, func(s string) (int64, bool) {
		s, ok := f(s)
		nd.out.Dict = append(nd.out.Dict, s)
		return int64(len(nd.out.Dict) - 1), ok
	})
}

func (nd *node) concat() {
	x, y := nd.args[0], nd.args[1]
	if x.kind() != Text || y.kind() != Text {
		panic(unsupported("|| of more than texts"))
	}
	if y.fixed {
		with := y.literalText()
		nd.toText(func(s string) (string, bool) { return s + with, true })
		return
	}
	nd.out.Kind = Text
	nd.eval = func(n int) {
		nd.nulls(x, y)
		nd.out.Dict = nd.out.Dict[:0]
		codes := map[[2]int64]int64{}
		for i := range n {
			if nd.out.Null[i] {
				continue
			}
			pair := [2]int64{x.out.Ints[i], y.out.Ints[i]}
			code, ok := codes[pair]
			if !ok {
				code = int64(len(nd.out.Dict))
				codes[pair] = code
				nd.out.Dict = append(nd.out.Dict, x.out.text(i)+y.out.text(i))
			}
			nd.out.Ints[i] = code
		}
	}
}

// substr is the beginning of a time: its day, hour or minute.
func (nd *node) substr() {
	if len(nd.args) != 3 || nd.args[0].kind() != Time || !nd.args[1].fixed || !nd.args[2].fixed {
		panic(unsupported("substr of other than a time"))
	}
	from, length := nd.args[1], nd.args[2]
	if from.kind() != Int || length.kind() != Int {
		panic(unsupported("substr by other than whole numbers"))
	}
	from.out.resize(1)
	from.eval(1)
	length.out.resize(1)
	length.eval(1)
	unit, ok := map[int64]int64{10: 24 * 3600e6, 13: 3600e6, 16: 60e6}[length.out.Ints[0]]
	if from.out.Ints[0] != 1 || !ok {
		panic(unsupported("substr of a time other than its day, hour or minute"))
	}
	layout, x := timeLayout[:length.out.Ints[0]], nd.args[0]
	nd.out.Kind = Text
	nd.eval = func(n int) {
		nd.nulls(x)
		nd.out.Dict = nd.out.Dict[:0]
		codes := map[int64]int64{}
		last, code := int64(math.MinInt64), int64(0)
		for i := range n {
			if nd.out.Null[i] {
				continue
			}
			begin := x.out.Ints[i] - ((x.out.Ints[i]%unit)+unit)%unit
			if begin != last {
				var ok bool
				if code, ok = codes[begin]; !ok {
					code = int64(len(nd.out.Dict))
					codes[begin] = code
					nd.out.Dict = append(nd.out.Dict, time.UnixMicro(begin).UTC().Format(layout))
				}
				last = begin
			}
			nd.out.Ints[i] = code
		}
	}
}

// label is label(labels, 'name'): the value of a label, null without it.
func (nd *node) label() {
	if len(nd.args) != 2 {
		panic(unsupported("label"))
	}
	name := nd.args[1].literalText()
	nd.toText(func(s string) (string, bool) {
		v := Label(s, name)
		return v, v != ""
	})
}

// lower is the text with A to Z in lower case: LIKE makes no difference between these.
func lower(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}, s)
}

// like is SQL's LIKE for texts in lower case: % is any text, _ any character. Only the last % met so far is tried with more
// text: what the ones before it stand for can stay as short as it is.
func like(pattern, s string) bool {
	rest, from, any := "", "", false // the pattern behind the last %, and the text that it was tried with
	for {
		switch {
		case pattern != "" && pattern[0] == '%':
			pattern = pattern[1:]
			rest, from, any = pattern, s, true
		case pattern != "" && s != "" && pattern[0] == '_':
			pattern, s = pattern[1:], s[character(s):]
		case pattern != "" && s != "" && pattern[0] == s[0]:
			pattern, s = pattern[1:], s[1:]
		case pattern == "" && s == "":
			return true
		case !any || from == "":
			return false
		default:
			from = from[character(from):]
			pattern, s = rest, from
		}
	}
}

// character is the length of the first character of a text.
func character(s string) int {
	size := 1
	for size < len(s) && s[size]&0xC0 == 0x80 {
		size++
	}
	return size
}
