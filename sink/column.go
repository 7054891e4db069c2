package sink

import "wattline/meter"

// Column describes one column of a table whose rows are T, as meter.Column does for requests: its name
// in every engine and every JSON object, its unit ("" where it has none), and what it means. Ptr returns
// a pointer to the field: *string, *time.Time, *meter.Int, *[]string, *[]uint32 or *map[string]string, which is
// also how an engine learns the type. An empty string, nil slice or map and an invalid Int are null.
type Column[T any] struct {
	Name string
	Unit string
	Doc  string
	Ptr  func(*T) any
}

// RequestColumns returns the columns of table requests in their canonical order.
func RequestColumns() []Column[meter.Record] {
	columns := make([]Column[meter.Record], 0, len(meter.Columns()))
	for _, c := range meter.Columns() {
		columns = append(columns, Column[meter.Record](c))
	}
	return columns
}
