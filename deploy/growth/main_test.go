package main

import (
	"strings"
	"testing"
)

// TestTable: figures at each size, and the exponent with which they grow.
func TestTable(t *testing.T) {
	const in = `goos: linux
pkg: wattline/sink/queries
BenchmarkGrowth/rows=10000-2   	1	1000000 ns/op	 20.0 cpu-us/row	 0 lost
BenchmarkGrowth/rows=100000-2  	1	10000000 ns/op	 20.0 cpu-us/row	 0 lost	 7 late-ms
BenchmarkGrowth/rows=1000000-2 	1	100000000 ns/op	 20.0 cpu-us/row	 0 lost	 700 late-ms
BenchmarkOther-2	1	5 ns/op
pkg: wattline/meter
BenchmarkGrowth/tokens=1000-2	1	100 ns/op
BenchmarkGrowth/tokens=2000-2	1	400 ns/op
PASS
`
	const want = `
### wattline/sink/queries Growth

| rows | ns/op | cpu-us/row | lost | late-ms |
|---:|---:|---:|---:|---:|
| 10000 | 1000000 | 20 | 0 | - |
| 100000 | 10000000 | 20 | 0 | 7 |
| 1000000 | 100000000 | 20 | 0 | 700 |
| slope | 1.00 | 0.00 | - | - |

### wattline/meter Growth

| tokens | ns/op |
|---:|---:|
| 1000 | 100 |
| 2000 | 400 |
| slope | 2.00 |
`
	var out strings.Builder
	if err := run(strings.NewReader(in), &out); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := run(strings.NewReader("ok  \twattline\t1s\nBenchmarkX\t1\t2 ns/op\n"), &out); err == nil {
		t.Error("an input without sizes makes a table")
	}
	if err := run(strings.NewReader("BenchmarkX/n=0\t1\t2 ns/op\n"), &out); err == nil {
		t.Error("a size of 0 makes a table")
	}
}
