package chtest

import "testing"

// The engine contains ClickHouse's own client, in C++, for tables on other servers. It speaks to our
// native server too: an INSERT and a SELECT through it prove the framing by a second, independent client,
// and that a deduplication token travels with a distributed INSERT.
func TestNativeCPlusPlusClient(t *testing.T) {
	srv := NewServer(t, shared.Engine(t), Options{})
	db := freshDB(t)
	e := srv.Engine()
	e.MustQuery(t, "CREATE TABLE "+quoteName(db)+`.t (a Int64, n Nullable(String), l LowCardinality(Nullable(String)), m Map(String, String))
		ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100`)
	remote := "remote('" + srv.NativeAddr() + "', " + quoteName(db) + ".t)"
	for range 2 {
		e.MustQuery(t, "INSERT INTO FUNCTION "+remote+` SETTINGS insert_deduplication_token = 'once', distributed_foreground_insert = 1, async_insert = 0
			SELECT number, nullIf(toString(number), '1'), 'x', map('k', 'v') FROM numbers(1000)`)
	}
	for query, want := range map[string]string{
		"SELECT count(), sum(a), count(n) FROM " + remote:     "1000\t499500\t999",
		"SELECT * FROM " + remote + " WHERE a < 3 ORDER BY a": "0\t0\tx\t{'k':'v'}\n1\t\\N\tx\t{'k':'v'}\n2\t2\tx\t{'k':'v'}",
		"SELECT count() FROM " + quoteName(db) + ".t":         "1000",
		"SELECT count() FROM " + remote + " WHERE a < 0":      "0",
	} {
		if got := e.MustQuery(t, query); got != want {
			t.Errorf("%s: %q, expected %q", query, got, want)
		}
	}
}
