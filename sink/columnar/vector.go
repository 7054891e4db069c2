package columnar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Kind is the type of a column's values.
type Kind uint8

// The kinds.
const (
	None  Kind = iota // only nulls
	Int               // int64
	Float             // float64
	Text              // string
	Time              // microseconds since 1970; in SQL the text of the store's layout
)

// Vector is a column of values. Ints holds Int and Time values and, for Text, indices of Dict, which may name a
// text twice. The value of a null is meaningless.
type Vector struct {
	Kind   Kind
	Null   []bool
	Ints   []int64
	Floats []float64
	Dict   []string
}

// resize gives v n values of its kind; they keep what was there.
func (v *Vector) resize(n int) {
	v.Null = sized(v.Null, n)
	if v.Kind == Float {
		v.Floats = sized(v.Floats, n)
	} else {
		v.Ints = sized(v.Ints, n)
	}
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// text is the value of a Text vector at i, which is not null.
func (v *Vector) text(i int) string { return v.Dict[v.Ints[i]] }

// A column is encoded as: its kind, for Text the texts (count, then length and bytes of each), the smallest value, whether
// there are nulls, the width of a value in bits, and each value, less the smallest, in that width. Where there are nulls,
// null is 0 and every other value is 1 more. A column of one value so takes no room.
const (
	headBytes = 10
	padding   = 8  // so that 8 bytes can be read at each value
	maxShared = 57 // a wider value, which might share its first byte, does not fit 8 bytes: it takes 64 bits
)

var errEncoding = errors.New("columnar: the bytes are not a column")

// Encode appends a vector of Int, Time or Text to b.
func (v *Vector) Encode(b []byte) ([]byte, error) {
	b = append(b, byte(v.Kind))
	if v.Kind == Text {
		b = binary.AppendUvarint(b, uint64(len(v.Dict)))
		for _, s := range v.Dict {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	low, high, nulls := int64(math.MaxInt64), int64(math.MinInt64), uint64(0)
	for i, x := range v.Ints {
		if v.Null[i] {
			nulls = 1
		} else {
			low, high = min(low, x), max(high, x)
		}
	}
	width := 0
	if low <= high {
		span := uint64(high - low)
		if span == math.MaxUint64 {
			return nil, fmt.Errorf("columnar: values from %d to %d do not fit a block", low, high)
		}
		if width = bits.Len64(span + nulls); width > maxShared {
			width = 64
		}
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(low))
	b = append(b, byte(nulls), byte(width))
	from := len(b)
	b = append(b, make([]byte, (len(v.Ints)*width+7)/8+padding)...)
	for i, x := range v.Ints {
		if v.Null[i] {
			continue
		}
		at := i * width
		to := b[from+at/8:]
		code := (uint64(x-low) + nulls) << (at % 8)
		binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(to)|code)
	}
	return b, nil
}

// Decode reads a column of n values into v, whose memory it uses again.
func (v *Vector) Decode(b []byte, n int) error {
	if len(b) < 1 {
		return errEncoding
	}
	v.Kind, b = Kind(b[0]), b[1:]
	if v.Kind == Text {
		var err error
		if b, err = v.decodeDict(b); err != nil {
			return err
		}
	}
	if len(b) < headBytes || b[8] > 1 || b[9] > 64 || len(b) != headBytes+(int(b[9])*n+7)/8+padding {
		return errEncoding
	}
	low, nulls, width := binary.LittleEndian.Uint64(b), uint64(b[8]), int(b[9])
	v.resize(n)
	b = b[headBytes:]
	mask := uint64(1)<<width - 1 // all bits for 64
	for i := range n {
		at := i * width
		code := binary.LittleEndian.Uint64(b[at/8:]) >> (at % 8) & mask
		v.Null[i] = code < nulls
		v.Ints[i] = int64(low + code - nulls)
	}
	if v.Kind != Text {
		return nil
	}
	for i, code := range v.Ints {
		if v.Null[i] {
			v.Ints[i] = 0
		} else if code < 0 || code >= int64(len(v.Dict)) {
			return errEncoding
		}
	}
	return nil
}

func (v *Vector) decodeDict(b []byte) ([]byte, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > uint64(len(b)) {
		return nil, errEncoding
	}
	b = b[n:]
	v.Dict = make([]string, count)
	for i := range v.Dict {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errEncoding
		}
		v.Dict[i], b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	return b, nil
}
