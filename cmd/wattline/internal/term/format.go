package term

import (
	"database/sql"

	"wattline/meter"
	"wattline/replay/table"
)

func ms(v meter.Int) string { return table.InUnit(v, 1e3, "ms") }

func nullFloat(v sql.Null[float64]) string {
	if !v.Valid {
		return table.Absent
	}
	return table.Number(v.V)
}
