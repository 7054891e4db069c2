package meter

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzAppendJSONString: a text is written as encoding/json writes it.
func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "a", "<b>", "é", "\u2028", "\x7f", "a\"b\\", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendJSONString(nil, s)); got != string(want) {
			t.Errorf("%q is %s, encoding/json says %s", s, got, want)
		}
	})
}

// TestDetailsText: every member is written once, under its key, and read back; nothing told is an empty object.
func TestDetailsText(t *testing.T) {
	if text, _ := new(Details).MarshalText(); string(text) != "{}" {
		t.Errorf("no details are %s", text)
	}
	var d Details
	seen := map[any]bool{}
	for i, m := range detailTable {
		switch p := m.ptr(&d).(type) {
		case *Int:
			*p = Some(int64(i))
		case *Float:
			*p = Float{V: 0.25, Valid: true}
		case *string:
			*p = "\"<é> " + m.key
		}
		seen[m.ptr(&d)] = true
	}
	if len(seen) != len(detailTable) {
		t.Errorf("%d keys for %d fields", len(detailTable), len(seen))
	}
	text, err := d.MarshalText()
	var members map[string]any
	if err != nil || json.Unmarshal(text, &members) != nil || len(members) != len(detailTable) {
		t.Fatalf("%d members for %d keys, %v: %s", len(members), len(detailTable), err, text)
	}
	var back Details
	if err := back.UnmarshalText(text); err != nil || !back.Equal(&d) {
		t.Errorf("read back %+v, %v", back, err)
	}
	back.stored = ""
	if back != d {
		t.Errorf("read back\n%+v, want\n%+v", back, d)
	}
	for i := range reflect.TypeFor[Details]().NumField() {
		if f := reflect.ValueOf(d).Field(i); reflect.TypeFor[Details]().Field(i).IsExported() && f.IsZero() {
			t.Errorf("field %s has no key", reflect.TypeFor[Details]().Field(i).Name)
		}
	}
}

// TestDetailsOfAnotherVersion: what this version does not know stays, what it cannot read is null.
func TestDetailsOfAnotherVersion(t *testing.T) {
	for _, text := range []string{`{"slot":3,"colour":"red","seed":"seven","server_build":9}`, `{"slot":`, `7`} {
		var d Details
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Seed.Valid || d.ServerBuild != "" {
			t.Errorf("%s: %+v, %v", text, d, err)
		}
		if d.Slot.Valid != (text[len(text)-1] == '}') {
			t.Errorf("%s: slot %v", text, d.Slot)
		}
		if again, _ := d.MarshalText(); string(again) != text {
			t.Errorf("%s is written as %s", text, again)
		}
	}
}
