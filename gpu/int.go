package gpu

import "strconv"

// Int is an integer that may be absent. The zero value is null: "not obtained". A measured zero is
// Some(0).
type Int struct {
	V  int64
	OK bool
}

// Some returns a present integer.
func Some(v int64) Int { return Int{V: v, OK: true} }

// Or returns the value, or alt where it is absent.
func (i Int) Or(alt int64) int64 {
	if i.OK {
		return i.V
	}
	return alt
}

// MarshalJSON writes the integer, or null where it is absent.
func (i Int) MarshalJSON() ([]byte, error) {
	if !i.OK {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, i.V, 10), nil
}
