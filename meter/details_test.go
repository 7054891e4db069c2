package meter

import (
	"encoding/json"
	"testing"
)

// FuzzAppendText: a text is written as encoding/json writes it.
func FuzzAppendText(f *testing.F) {
	for _, s := range []string{"", "a", "<b>", "é", "\u2028", "\x7f", "a\"b\\", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendText(nil, s)); got != string(want) {
			t.Errorf("%q is %s, encoding/json says %s", s, got, want)
		}
	})
}
