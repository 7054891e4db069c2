package queries

import (
	"context"
	"database/sql"
	"strings"
)

// ColumnNames returns the column names of a statement, because ClickHouse's HTTP reply without rows has no names either.
// It returns nil if they cannot be found out, for example for a statement other than SELECT.
func ColumnNames(ctx context.Context, db *sql.DB, d Dialect, statement string) (names []string) {
	if d != ClickHouse {
		return nil
	}
	rows, err := db.QueryContext(ctx, "DESCRIBE TABLE ("+strings.TrimRight(statement, "; \n\t")+"\n)")
	if err != nil {
		return nil
	}
	defer rows.Close() //nolint:errcheck // Err is checked
	described, err := rows.Columns()
	if err != nil || len(described) == 0 {
		return nil
	}
	cells := make([]any, len(described)) // the first is the name
	for i := range cells {
		cells[i] = new(any)
	}
	for rows.Next() {
		var name string
		cells[0] = &name
		if rows.Scan(cells...) != nil {
			return nil
		}
		names = append(names, name)
	}
	if rows.Err() != nil {
		return nil
	}
	return names
}
