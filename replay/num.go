package replay

import (
	"encoding/json"
	"math"
	"strconv"
)

// Num is a number that may be absent: the zero value is null, "not obtained". In JSON it is written
// without an exponent, rounded to six significant digits.
type Num struct {
	V     float64
	Valid bool
}

// Some is a present number. What is no number, or infinite, is absent.
func Some(v float64) Num {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Num{}
	}
	return Num{v, true}
}

// Ratio is a/b, absent where b is not above zero.
func Ratio(a, b Num) Num {
	if !a.Valid || !b.Valid || b.V <= 0 {
		return Num{}
	}
	return Some(a.V / b.V)
}

// Times is the number times f.
func (n Num) Times(f float64) Num {
	if !n.Valid {
		return n
	}
	return Some(n.V * f)
}

const jsonDigits = 6

// MarshalJSON writes the number, or null.
func (n Num) MarshalJSON() ([]byte, error) {
	if !n.Valid {
		return []byte("null"), nil
	}
	digits := jsonDigits
	for v := math.Abs(n.V); v >= 1e6; v /= 10 { // never cut whole digits
		digits++
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(n.V, 'g', digits, 64), 64)
	if err != nil {
		return nil, err
	}
	return strconv.AppendFloat(nil, rounded, 'f', -1, 64), nil
}

// UnmarshalJSON reads a number or null.
func (n *Num) UnmarshalJSON(b []byte) error {
	*n = Num{}
	if string(b) == "null" {
		return nil
	}
	n.Valid = true
	return json.Unmarshal(b, &n.V)
}
