package sink

import "wattline/meter"

// Column describes one column of a table with rows of type T, as meter.Column does for requests. Ptr returns a pointer to
// the field: *string, *time.Time, *meter.Int, *[]string, *[]uint32 or *map[string]string. An empty string, a nil slice or
// map and an invalid Int are null.
type Column[T any] struct {
	Since int
	Name  string
	Unit  string
	Doc   string
	Ptr   func(*T) any
}

// RequestColumns returns the columns of table requests in their canonical order.
func RequestColumns() []Column[meter.Record] {
	columns := make([]Column[meter.Record], 0, len(meter.Columns()))
	for _, c := range meter.Columns() {
		columns = append(columns, Column[meter.Record](c))
	}
	return columns
}

// SchemaVersion is the newest schema version: the highest Since of any column.
func SchemaVersion() int {
	return max(newest(RequestColumns()), newest(PowerColumns()), newest(LedgerColumns()), newest(ConfigColumns()), newest(GapsColumns()))
}

func newest[T any](columns []Column[T]) (version int) {
	for _, c := range columns {
		version = max(version, c.Since)
	}
	return version
}
