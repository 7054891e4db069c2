package chtest

import (
	"testing"
)

func TestRemote(t *testing.T) {
	srv := NewServer(t, shared.Engine(t), Options{})
	db := freshDB(t)
	e := srv.Engine()
	e.MustQuery(t, "CREATE TABLE "+quoteName(db)+".t (a Int64, n Nullable(String), l LowCardinality(Nullable(String))) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	remote := "remote('" + srv.NativeAddr() + "', " + quoteName(db) + ".t)"
	e.MustQuery(t, "INSERT INTO FUNCTION "+remote+" SELECT number, toString(number), 'x' FROM numbers(1000)")
	t.Log(e.MustQuery(t, "SELECT count(), sum(a) FROM "+remote))
	t.Log(e.MustQuery(t, "SELECT * FROM "+remote+" WHERE a < 3 ORDER BY a"))
}
