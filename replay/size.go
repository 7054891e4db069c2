package replay

import (
	"fmt"
	"strconv"
	"strings"
)

// Sizes is a list of token counts. In YAML and JSON it is a list, or one string with commas: "1k,10k".
type Sizes []int

// ParseSize reads a number of tokens: 256, 1k (1,000) or 1.5k. A capital K is refused, for it means 1,024
// to some: a prompt of N tokens is N tokens here.
func ParseSize(s string) (int, error) {
	text := strings.TrimSpace(s)
	if digits, ok := strings.CutSuffix(text, "K"); ok {
		if n, err := strconv.Atoi(digits); err == nil {
			return 0, fmt.Errorf("%q could mean two numbers: write %dk for %d tokens or %d for %d x 1024", s, n, n*1000, n*1024, n)
		}
	}
	unit := 1.0
	digits, thousands := strings.CutSuffix(text, "k")
	if thousands {
		unit = 1000
	}
	f, err := strconv.ParseFloat(digits, 64)
	n := int(f * unit)
	if err != nil || f <= 0 || float64(n) != f*unit || n > maxSize {
		return 0, fmt.Errorf("%q is no number of tokens: write 256, 1k (1000) or 10k", s)
	}
	return n, nil
}

const maxSize = 100_000_000

// ParseSizes reads a list of sizes. An item may itself hold several, with commas or spaces between.
func ParseSizes(items []string) (Sizes, error) {
	var out Sizes
	for _, item := range items {
		for _, s := range strings.FieldsFunc(item, func(r rune) bool { return r == ',' || r == ' ' }) {
			n, err := ParseSize(s)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
	}
	return out, nil
}

// UnmarshalYAML reads a number, a string, or a list of both.
func (s *Sizes) UnmarshalYAML(unmarshal func(any) error) error {
	var v any
	if err := unmarshal(&v); err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	items := make([]string, len(list))
	for i, x := range list {
		items[i] = fmt.Sprint(x)
	}
	out, err := ParseSizes(items)
	*s = out
	return err
}

// SizeName is how a size is shown: 1000 is 1k, 1500 is 1.5k, 256 is 256.
func SizeName(n int) string {
	if n >= 1000 && n%100 == 0 {
		return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) + "k"
	}
	return strconv.Itoa(n)
}
