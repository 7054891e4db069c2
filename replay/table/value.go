package table

import (
	"strconv"

	"wattline/meter"
	"wattline/replay"
)

// Num prints a number of a result.
func Num(n replay.Num) string {
	if !n.Valid {
		return Absent
	}
	return Number(n.V)
}

// InUnit prints v/scale with its unit.
func InUnit(v meter.Int, scale float64, unit string) string {
	if !v.Valid {
		return Absent
	}
	return Number(float64(v.V)/scale) + " " + unit
}

// Count prints all digits.
func Count(v meter.Int) string {
	if !v.Valid {
		return Absent
	}
	return strconv.FormatInt(v.V, 10)
}
