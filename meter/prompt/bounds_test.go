package prompt

import (
	"fmt"
	"strings"
	"testing"
)

// TestManyParts: a body of very many parts is given up, with the reason and without its memory.
func TestManyParts(t *testing.T) {
	many := strings.Repeat("1,", maxParts) + "1"
	for _, b := range []string{
		`{"tools":[` + many + `]}`, `{"messages":[` + many + `]}`, `{"messages":[{"role":"user","content":[` + many + `]}]}`, `{"input":[` + many + `]}`,
	} {
		p := Parse(testKey, []byte(b), nil)
		if !p.Broken || p.Unread == "" || p.Parts != nil || p.Text != nil {
			t.Errorf("%.20s: broken %v, %q, %d parts", b, p.Broken, p.Unread, len(p.Parts))
		}
	}
	if p := Parse(testKey, []byte(`{"tools":[`+many[:2000]+`1]}`), nil); p.Broken || len(p.Parts) != 1001 {
		t.Errorf("%d parts", len(p.Parts))
	}
}

// TestSeveral: more than one completion is found; null, one and other values are not more than one.
func TestSeveral(t *testing.T) {
	for v, want := range map[string]bool{"null": false, "1": false, "1.0": false, "0": false, "-12": false, `"2"`: false, "2": true, "10": true, "1e1": true} {
		for _, name := range []string{"n", "n_cmpl"} {
			if got := Parse(testKey, []byte(`{"prompt":"x","`+name+`":`+v+`}`), nil).Several; got != want {
				t.Errorf("%s %s: several %v", name, v, got)
			}
		}
	}
}

// TestSearchIsBounded: what a comparison searches for lost pieces of text has a bound, also where every part lost one.
func TestSearchIsBounded(t *testing.T) {
	var before, now strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&before, `,{"role":"user","content":"question %d %s and %040d"}`, i, strings.Repeat("x", 60), i)
		fmt.Fprintf(&now, `,{"role":"user","content":"question %d %s"}`, i, strings.Repeat("x", 60))
	}
	p := Parse(testKey, []byte(`{"messages":[`+before.String()[1:]+`]}`), nil)
	q := Parse(testKey, []byte(`{"messages":[`+now.String()[1:]+`]}`), nil)
	steps := align(q, p, 0)
	if len(steps) != 2000 {
		t.Fatalf("%d steps", len(steps))
	}
	search := maxSearched
	if anyCut(q, p, steps, &search) || search >= 0 || search < -2*searchCost*len(steps) {
		t.Errorf("%d are left", search)
	}
}
