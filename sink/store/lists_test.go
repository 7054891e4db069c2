package store

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"wattline/sink/columnar"
)

// TestListStats compares list_stats with the quantiles of one sorted list: short lists and many, ties, and numbers whose
// neighbours in order are far away.
func TestListStats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, next := range map[string]func() uint32{
		"gaps":    func() uint32 { return uint32(math.Exp(9 + r.NormFloat64())) },
		"any":     r.Uint32,
		"ties":    func() uint32 { return uint32(r.IntN(3)) },
		"two":     func() uint32 { return uint32(r.IntN(2)) * math.MaxUint32 },
		"classes": func() uint32 { return 1<<(r.IntN(32)) - uint32(r.IntN(2)) },
	} {
		for _, lists := range []int{1, 2, 3, 20, 400} {
			stats, all := &listStats{}, []uint32{}
			for range lists {
				text := []byte("[")
				for i := range r.IntN(1 + min(lists*lists, 1000)) {
					if i > 0 {
						text = append(text, ',')
					}
					v := next()
					all, text = append(all, v), strconv.AppendUint(text, uint64(v), 10)
				}
				must(t, stats.Step(nil, []driver.Value{string(append(text, ']'))}))
			}
			got, err := stats.WindowValue(nil)
			must(t, err)
			if len(all) == 0 {
				if got != nil {
					t.Errorf("%s, %d lists: %v of no numbers", name, lists, got)
				}
				continue
			}
			zeros, largest := 0, uint32(0)
			for _, v := range all {
				largest = max(largest, v)
				if v == 0 {
					zeros++
				}
			}
			want, err := json.Marshal(map[string]any{
				"n": len(all), "zeros": zeros, "max": largest,
				"p50": columnar.Quantile(all, 0.5), "p90": columnar.Quantile(all, 0.9), "p99": columnar.Quantile(all, 0.99),
			})
			must(t, err)
			if text, _ := got.(string); !bytes.Equal([]byte(text), want) {
				t.Errorf("%s, %d lists of %d numbers: %v, want %s", name, lists, len(all), got, want)
			}
			stats.Final(nil)
		}
	}
}

// TestListStatsOfARunningSum asks again after each list, as a window function does.
func TestListStatsOfARunningSum(t *testing.T) {
	r := tempReader(t, tempStore(t))
	rows, err := r.DB().QueryContext(t.Context(), `SELECT list_stats_by('k', x) OVER (ORDER BY n), list_stats(x) OVER (ORDER BY n)
		FROM (SELECT column1 AS n, column2 AS x FROM (VALUES (1, '[5]'), (2, '[7,9]'), (3, '[70000,1]')))`)
	must(t, err)
	defer rows.Close()
	for _, want := range []string{
		`{"max":5,"n":1,"p50":5,"p90":5,"p99":5,`, `{"max":9,"n":3,"p50":7,"p90":8.6,"p99":8.96,`, `{"max":70000,"n":5,"p50":7,"p90":42003.600000000006,"p99":67200.36,`,
	} {
		var by, one string
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		must(t, rows.Scan(&by, &one))
		if !strings.HasPrefix(one, want) || !strings.HasPrefix(by, `{"k":`+want) {
			t.Errorf("%s and %s, want %s", one, by, want)
		}
	}
	must(t, rows.Err())
}
