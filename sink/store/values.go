package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
)

// values are one row as SQLite takes it: the same memory serves row after row.
type values struct {
	list []value
	text []byte // of all values that are text, one after the other
}

type valueKind uint8

const (
	isNull valueKind = iota
	isInt
	isText
)

type value struct {
	kind valueKind
	from int   // where a text begins
	n    int64 // the integer, or the text's length
}

func (v *values) reset() { v.list, v.text = v.list[:0], v.text[:0] }

func (v *values) addNull()       { v.list = append(v.list, value{}) }
func (v *values) addInt(n int64) { v.list = append(v.list, value{kind: isInt, n: n}) }

// addText adds a text; an empty one is null.
func (v *values) addText(s string) {
	if s == "" {
		v.addNull()
		return
	}
	from := len(v.text)
	v.text = append(v.text, s...)
	v.endText(from)
}

// endText makes what was appended to the text since from one value.
func (v *values) endText(from int) {
	v.list = append(v.list, value{kind: isText, from: from, n: int64(len(v.text) - from)})
}

// add adds a field, given by pointer as in Column.Ptr.
func (v *values) add(field any) error {
	switch p := field.(type) {
	case *meter.Int:
		if p.Valid {
			v.addInt(p.V)
		} else {
			v.addNull()
		}
	case *string:
		v.addText(*p)
	case *meter.Outcome:
		v.addText(string(*p))
	case *time.Time:
		v.addTime(*p)
	case *map[string]string:
		return v.addJSON(*p == nil, p)
	case *[]string:
		return v.addTexts(*p)
	case **meter.Details:
		return v.addDetails(*p)
	case *[]int64:
		addIntegers(v, *p)
	case *[]uint32:
		addIntegers(v, *p)
	default:
		return fmt.Errorf("store: a column has a field of unknown type %T", field)
	}
	return nil
}

func (v *values) addTime(t time.Time) {
	if t.IsZero() {
		v.addNull()
		return
	}
	from := len(v.text)
	v.text = t.UTC().AppendFormat(v.text, TimeLayout)
	v.endText(from)
}

func (v *values) addJSON(null bool, p any) error {
	if null {
		v.addNull()
		return nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	from := len(v.text)
	v.text = append(v.text, b...)
	v.endText(from)
	return nil
}

func (v *values) addDetails(d *meter.Details) (err error) {
	if d == nil {
		v.addNull()
		return nil
	}
	from := len(v.text)
	v.text, err = d.AppendText(v.text)
	v.endText(from)
	return err
}

// addTexts adds a list as JSON, as json.Marshal writes it.
func (v *values) addTexts(list []string) error {
	if list == nil || !isPlain(list) {
		return v.addJSON(list == nil, list)
	}
	from := len(v.text)
	v.text = append(v.text, '[')
	for i, s := range list {
		if i > 0 {
			v.text = append(v.text, ',')
		}
		v.text = append(append(append(v.text, '"'), s...), '"')
	}
	v.text = append(v.text, ']')
	v.endText(from)
	return nil
}

// isPlain is whether JSON needs no escape for any of the texts.
func isPlain(list []string) bool {
	for _, s := range list {
		for _, c := range []byte(s) {
			if c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
				return false
			}
		}
	}
	return true
}

// addIntegers adds a list as JSON.
func addIntegers[T int64 | uint32](v *values, list []T) {
	if list == nil {
		v.addNull()
		return
	}
	from := len(v.text)
	v.text = append(v.text, '[')
	for i, n := range list {
		if i > 0 {
			v.text = append(v.text, ',')
		}
		v.text = strconv.AppendInt(v.text, int64(n), 10)
	}
	v.text = append(v.text, ']')
	v.endText(from)
}

// any is the i-th value as database/sql takes it.
func (v *values) any(i int) any {
	switch x := v.list[i]; x.kind {
	case isInt:
		return x.n
	case isText:
		return string(v.text[x.from : x.from+int(x.n)])
	}
	return nil
}
