package meter

import "encoding/json"

// Int is an integer that may be absent. The zero value is null: "not obtained".
// A measured zero is Some(0); nothing in wattline writes a zero for an unknown.
type Int struct {
	V     int64
	Valid bool
}

// Some returns a present integer.
func Some(v int64) Int { return Int{V: v, Valid: true} }

// MarshalJSON writes the integer, or null when it is absent.
func (i Int) MarshalJSON() ([]byte, error) {
	if !i.Valid {
		return []byte("null"), nil
	}
	return json.Marshal(i.V)
}

// UnmarshalJSON reads an integer or null.
func (i *Int) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*i = Int{}
		return nil
	}
	i.Valid = true
	return json.Unmarshal(b, &i.V)
}
