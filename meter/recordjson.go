package meter

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MarshalJSON writes the record as one object of column names and values, in column order.
func (r *Record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range columns {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", c.Name)
		if c.Null(r) {
			b.WriteString("null")
			continue
		}
		v, err := json.Marshal(c.Ptr(r))
		if err != nil {
			return nil, fmt.Errorf("meter: column %s: %w", c.Name, err)
		}
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object as MarshalJSON writes it. Unknown keys are ignored, so that a
// reader of one version understands a writer of the next.
func (r *Record) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("meter: record: %w", err)
	}
	for _, c := range columns {
		v, ok := raw[c.Name]
		if !ok || string(v) == "null" {
			continue
		}
		if err := json.Unmarshal(v, c.Ptr(r)); err != nil {
			return fmt.Errorf("meter: column %s: %w", c.Name, err)
		}
	}
	return nil
}
