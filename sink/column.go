package sink

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
