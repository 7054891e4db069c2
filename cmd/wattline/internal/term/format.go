package term

import (
	"database/sql"
	"strconv"

	"wattline/meter"
	"wattline/replay/table"
)

// InUnit formats v/scale with its unit.
func InUnit(v meter.Int, scale float64, unit string) string {
	if !v.Valid {
		return table.Absent
	}
	return table.Number(float64(v.V)/scale) + " " + unit
}

func ms(v meter.Int) string { return InUnit(v, 1e3, "ms") }

// Count formats an integer.
func Count(v meter.Int) string {
	if !v.Valid {
		return table.Absent
	}
	return strconv.FormatInt(v.V, 10)
}

func nullFloat(v sql.Null[float64]) string {
	if !v.Valid {
		return table.Absent
	}
	return table.Number(v.V)
}
