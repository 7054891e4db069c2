package table

import (
	"math"
	"strings"
	"testing"
)

func TestNumberDigits(t *testing.T) {
	for v, want := range map[float64]string{2.22e-14: "0", -2.22e-14: "0",
		0: "0", 1.23456: "1.23", 12.3456: "12.3", 999.6: "1000", 12345.6: "12346", 123456.7: "123457", -1234.5: "-1234", 0.000123456: "0.000123",
		1e-9: "0.000000001", 1e21: "1000000000000000000000", math.Inf(1): "+Inf",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%g) = %s, want %s", v, got, want)
		}
	}
}

func TestAlignment(t *testing.T) {
	var b strings.Builder
	tab := NewNumeric(&b, "name", "n", "µs")
	tab.Row("a", 1, "10")
	tab.Row("längere", 100, "2")
	tab.Row("short")
	tab.Render()
	want := "name       n  µs\na          1  10\nlängere  100   2\nshort\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestOrAbsent(t *testing.T) {
	if OrAbsent("") != "-" || OrAbsent("x") != "x" {
		t.Error("an empty text is a dash, any other is itself")
	}
}
