package chtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
)

var shared Shared

func TestMain(m *testing.M) {
	if dir := os.Getenv("CHTEST_ORPHAN"); dir != "" {
		orphan(dir)
	}
	os.Exit(shared.Run(m))
}

// open connects the real client library by the given protocol.
func open(t *testing.T, srv *Server, protocol clickhouse.Protocol, change func(*clickhouse.Options)) clickhouse.Conn {
	t.Helper()
	addr := srv.HTTPAddr()
	if protocol == clickhouse.Native {
		addr = srv.NativeAddr()
	}
	o := &clickhouse.Options{Protocol: protocol, Addr: []string{addr}, DialTimeout: time.Minute}
	if change != nil {
		change(o)
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// eachProtocol runs f over HTTP and native, plain and with block compression.
func eachProtocol(t *testing.T, f func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, srv *Server)) {
	t.Helper()
	engine := shared.Engine(t)
	for _, p := range []clickhouse.Protocol{clickhouse.HTTP, clickhouse.Native} {
		for _, m := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
			t.Run(fmt.Sprintf("%s/%s", p, m), func(t *testing.T) {
				srv := NewServer(t, engine, Options{})
				f(t, func(change func(*clickhouse.Options)) clickhouse.Conn {
					return open(t, srv, p, func(o *clickhouse.Options) {
						o.Compression = &clickhouse.Compression{Method: m}
						if change != nil {
							change(o)
						}
					})
				}, srv)
			})
		}
	}
}

// freshDB makes an empty database named after the test.
func freshDB(t *testing.T) string {
	t.Helper()
	db := strings.NewReplacer("/", "_", "#", "_").Replace(t.Name())
	e := shared.Engine(t)
	e.MustQuery(t, "DROP DATABASE IF EXISTS "+quoteName(db)+"")
	e.MustQuery(t, "CREATE DATABASE "+quoteName(db))
	return db
}

type row struct {
	N      *int64
	S      string
	L      *string
	M      map[string]string
	A      []int64
	Zoned  time.Time
	Status *int32
}

// Every column type that wattline's tables use comes back as it went in, nulls as nulls.
func TestRoundTrip(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, _ *Server) {
		db := freshDB(t)
		conn := open(func(o *clickhouse.Options) { o.Auth.Database = db })
		ctx := t.Context()
		err := conn.Exec(ctx, `CREATE TABLE t (n Nullable(Int64) CODEC(T64, ZSTD(1)), s String, l LowCardinality(Nullable(String)),
			m Map(LowCardinality(String), String), a Array(Int64), z DateTime64(6, 'UTC'), st Nullable(Int32)) ENGINE = MergeTree ORDER BY s`)
		if err != nil {
			t.Fatal(err)
		}
		v, l, st := int64(-42), "low", int32(200)
		at := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
		want := []row{
			{N: &v, S: "a", L: &l, M: map[string]string{"k": "v", "x": ""}, A: []int64{1, 2}, Zoned: at, Status: &st},
			{S: "empty\n\nlines\n\n", M: map[string]string{}, A: []int64{}, Zoned: at},
		}
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO t (n, s, l, m, a, z, st)")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = batch.Close() }()
		for _, r := range want {
			if err := batch.Append(r.N, r.S, r.L, r.M, r.A, r.Zoned, r.Status); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
		rows, err := conn.Query(ctx, "SELECT n, s, l, m, a, z, st FROM t ORDER BY s")
		if err != nil {
			t.Fatal(err)
		}
		var got []row
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.N, &r.S, &r.L, &r.M, &r.A, &r.Zoned, &r.Status); err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// An empty result still names its columns, large results arrive whole, parameters and settings reach the engine.
func TestQueries(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, _ *Server) {
		conn := open(nil)
		ctx := t.Context()
		rows, err := conn.Query(ctx, "SELECT number, toString(number) AS s FROM numbers(200000)")
		if err != nil {
			t.Fatal(err)
		}
		n, sum := 0, uint64(0)
		for rows.Next() {
			var v uint64
			var s string
			if err := rows.Scan(&v, &s); err != nil {
				t.Fatal(err)
			}
			if s != fmt.Sprint(v) {
				t.Fatalf("row %d says %q", v, s)
			}
			n, sum = n+1, sum+v
		}
		if rows.Err() != nil || n != 200000 || sum != 199999*100000 {
			t.Errorf("%d rows with sum %d, %v", n, sum, rows.Err())
		}
		var threads string
		with := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_threads": 3, "log_comment": `it's \here`}))
		if err := conn.QueryRow(with, "SELECT toString(getSetting('max_threads')) || getSetting('log_comment')").Scan(&threads); err != nil || threads != `3it's \here` {
			t.Errorf("settings: %q, %v", threads, err)
		}
		var after string
		if err := conn.QueryRow(ctx, "SELECT getSetting('log_comment')").Scan(&after); err != nil || after != "" {
			t.Errorf("a query's setting outlived it: %q, %v", after, err)
		}
		var text string
		with = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"x": `it's \ here`}))
		if err := conn.QueryRow(with, "SELECT {x:String} -- a comment at the end").Scan(&text); err != nil || text != `it's \ here` {
			t.Errorf("parameter: %q, %v", text, err)
		}
		var p int64
		with = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"x": "41"}))
		if err := conn.QueryRow(with, "SELECT {x:Int64} + 1").Scan(&p); err != nil || p != 42 {
			t.Errorf("parameter: %d, %v", p, err)
		}
		var count uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM numbers(0)").Scan(&count); err != nil || count != 0 {
			t.Errorf("count: %d, %v", count, err)
		}
		empty, err := conn.Query(ctx, "SELECT number FROM numbers(10) WHERE number > 100")
		if err != nil {
			t.Fatal(err)
		}
		for empty.Next() {
			t.Error("a row out of nothing")
		}
		if err := conn.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Exceptions keep their codes, whichever way they come.
func TestExceptions(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, _ *Server) {
		for query, code := range map[string]int32{
			"SELECT * FROM missing":                   60,
			"SELEC 1":                                 62,
			"SELECT throwIf(1)":                       395,
			"SELECT 1 SETTINGS no_such_setting = 1":   115,
			"CREATE TABLE nodb.t (a Int8) ENGINE = X": 81,
		} {
			err := open(nil).Exec(t.Context(), query)
			var e *clickhouse.Exception
			if !errors.As(err, &e) || e.Code != code {
				t.Errorf("%s: %v, expected code %d", query, err, code)
			}
		}
		_, err := open(nil).PrepareBatch(t.Context(), "INSERT INTO missing (a)")
		var e *clickhouse.Exception
		if !errors.As(err, &e) || e.Code != 60 {
			t.Errorf("insert into a missing table: %v", err)
		}
	})
}

func TestUsers(t *testing.T) {
	engine := shared.Engine(t)
	for _, tls := range []bool{false, true} {
		srv := NewServer(t, engine, Options{Users: map[string]string{"wattline": "s3cret"}, TLS: tls})
		for _, p := range []clickhouse.Protocol{clickhouse.HTTP, clickhouse.Native} {
			for password, code := range map[string]int32{"s3cret": 0, "wrong": 516, "": 516} {
				conn := open(t, srv, p, func(o *clickhouse.Options) {
					o.Auth = clickhouse.Auth{Username: "wattline", Password: password}
					if tls {
						o.TLS = srv.ClientTLS()
					}
				})
				err := conn.Ping(t.Context())
				var e *clickhouse.Exception
				if errors.As(err, &e); (code == 0) != (err == nil) || (e != nil && e.Code != code) {
					t.Errorf("tls %v, %s, password %q: %v", tls, p, password, err)
				}
			}
		}
	}
}

// A session_id keeps what SET and temporary tables did; without one nothing is kept.
func TestSessions(t *testing.T) {
	srv := NewServer(t, shared.Engine(t), Options{})
	with := func(id string) clickhouse.Conn {
		return open(t, srv, clickhouse.HTTP, func(o *clickhouse.Options) { o.Settings = clickhouse.Settings{"session_id": id} })
	}
	one, two := with("one"), with("two")
	if err := one.Exec(t.Context(), "CREATE TEMPORARY TABLE x (a Int8)"); err != nil {
		t.Fatal(err)
	}
	if err := one.Exec(t.Context(), "INSERT INTO x VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	var a int8
	if err := one.QueryRow(t.Context(), "SELECT a FROM x").Scan(&a); err != nil || a != 7 {
		t.Errorf("in its session: %d, %v", a, err)
	}
	if err := two.QueryRow(t.Context(), "SELECT a FROM x").Scan(&a); err == nil {
		t.Error("another session sees the temporary table")
	}
}

// insertInto appends n rows as the shipper does: one batch, one token.
func insertInto(ctx context.Context, conn clickhouse.Conn, from, n int, token string) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token, "async_insert": 0}))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t (a)")
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }()
	for i := range n {
		if err := batch.Append(int64(from + i)); err != nil {
			return err
		}
	}
	return batch.Send()
}

func TestFaults(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, srv *Server) {
		db := freshDB(t)
		e := srv.Engine()
		e.MustQuery(t, "CREATE TABLE "+quoteName(db)+".t (a Int64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
		count := func() string { return e.MustQuery(t, "SELECT count() FROM "+quoteName(db)+".t") }
		conn := open(func(o *clickhouse.Options) { o.Auth.Database = db })
		// A client gives up on a silent server when the fault has had its effect, not sooner: how long that takes
		// is a matter of the machine.
		steps := []struct {
			kind   FaultKind
			from   int
			token  string
			fails  bool
			silent bool
			expect string
		}{
			{CutBefore, 0, "same", true, false, "0"},
			{HangBefore, 0, "same", true, true, "0"},
			{CutAfter, 0, "same", true, false, "10"},
			{None, 0, "same", false, false, "10"}, // the same token: the engine's own deduplication
			{HangAfter, 10, "other", true, true, "20"},
		}
		for _, s := range steps {
			srv.Plan(func(int) Fault { return Fault{Kind: s.kind} })
			ctx, giveUp := context.WithCancel(t.Context())
			sent := make(chan error, 1)
			go func() { sent <- insertInto(ctx, conn, s.from, 10, s.token) }()
			for deadline := time.Now().Add(time.Minute); s.silent && (srv.Tried()[s.kind] == 0 || count() != s.expect) && time.Now().Before(deadline); {
				<-time.After(5 * time.Millisecond)
			}
			if s.silent {
				select {
				case err := <-sent:
					t.Errorf("%s: the client was answered: %v", s.kind, err)
					sent <- err
				case <-time.After(50 * time.Millisecond):
				}
				giveUp()
			}
			err := <-sent
			giveUp()
			if (err != nil) != s.fails || count() != s.expect {
				t.Errorf("%s: %v, %s rows, expected %s", s.kind, err, count(), s.expect)
			}
		}
		want := map[FaultKind]int{CutBefore: 1, HangBefore: 1, CutAfter: 1, None: 1, HangAfter: 1}
		if d := cmp.Diff(want, srv.Tried()); d != "" {
			t.Error(d)
		}
	})
}

// A killed engine cuts its clients, and what it had confirmed is there after a restart.
func TestKillAndRestart(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, srv *Server) {
		db := freshDB(t)
		e := srv.Engine()
		e.MustQuery(t, "CREATE TABLE "+quoteName(db)+".t (a Int64) ENGINE = MergeTree ORDER BY a")
		conn := open(func(o *clickhouse.Options) { o.Auth.Database = db })
		if err := insertInto(t.Context(), conn, 0, 1000, "kept"); err != nil {
			t.Fatal(err)
		}
		srv.Plan(func(int) Fault { return Fault{Kind: Kill, After: time.Millisecond, Down: time.Hour} })
		if err := insertInto(t.Context(), conn, 1000, 1000, "maybe"); err == nil {
			t.Error("an insert into a killed engine succeeded")
		}
		if _, err := e.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrDown) {
			t.Errorf("a dead engine answered: %v", err)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("the server answered without an engine")
		}
		if err := e.Restart(); err != nil {
			t.Fatal(err)
		}
		got := e.MustQuery(t, "SELECT countIf(a < 1000), countIf(a >= 1000) IN (0, 1000) FROM "+quoteName(db)+".t")
		if got != "1000\t1" {
			t.Errorf("after the restart: %q", got)
		}
	})
}

func TestRefuseAndAccept(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(func(*clickhouse.Options)) clickhouse.Conn, srv *Server) {
		conn := open(func(o *clickhouse.Options) { o.DialTimeout = time.Minute })
		if err := conn.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		srv.Refuse()
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("a closed server answered")
		}
		if err := srv.Accept(); err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The engine does not outlive the process that started it, not even one that was killed.
func TestEngineEndsWithParent(t *testing.T) {
	shared.Engine(t) // the library is in the cache
	pid := startOrphan(t)
	deadline := time.Now().Add(time.Minute)
	for !ended(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("engine %d lives on", pid)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A reserved port refuses connections, can be listened on again and again, and no other program gets it.
func TestFreeAddr(t *testing.T) {
	addr := FreeAddr(t)
	for range 3 {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Fatal("somebody listens on it")
		}
		for range 2000 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if l.Addr().String() == addr {
				t.Error("another listener got it")
			}
			_ = l.Close()
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("it cannot be listened on: %v", err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
