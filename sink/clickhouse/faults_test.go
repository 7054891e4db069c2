package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
)

// hasty is how soon an impatient client gives up on an insert. A busy machine may take longer for each, so
// that nothing would ever arrive: what waits for rows gives it more time, step by step.
const hasty = 300 * time.Millisecond

// impatient makes a shipper and its client give up and try again within a test's time.
func impatient(s *Shipper, c *Client) *Shipper {
	c.insertTimeout, c.countTimeout = hasty, testTimeout
	s.firstPause, s.longestPause = 5*time.Millisecond, 100*time.Millisecond
	s.deliverTo(c, current()).settle = 2 * time.Second
	return s
}

// untilDrained runs f beside the shipper and then waits until nothing is left in the store. Where that takes
// more than some inserts that give up would, the client gets more time; the shipper stands still meanwhile.
func untilDrained(t testing.TB, sh *Shipper, c *Client, s *store.Store, f func()) {
	t.Helper()
	for limit := 30 * time.Second; ; limit *= 2 {
		done := false
		until(t, sh, func() {
			f()
			done = drainedIn(t, s, limit)
		})
		if done {
			return
		}
		if c.insertTimeout > testTimeout {
			t.Fatalf("rows still wait although an insert may take %v: %s", c.insertTimeout, sh.Stats().LastError)
		}
		f = func() {}
		c.insertTimeout *= 4
		t.Logf("rows still wait: an insert may take %v now", c.insertTimeout)
	}
}

// chaos is a plan that fails three of four inserts, each in a random way, and counts.
func chaos(seed uint64) func(int) chtest.Fault {
	r := rand.New(rand.NewPCG(seed, 7))
	ms := func(n int) time.Duration { return time.Duration(r.IntN(n*1000)) * time.Microsecond }
	return func(int) chtest.Fault {
		kinds := []chtest.FaultKind{chtest.None, chtest.None, chtest.CutBefore, chtest.CutAfter, chtest.CutAfter, chtest.HangBefore, chtest.HangAfter, chtest.Late, chtest.Kill, chtest.Kill}
		switch k := kinds[r.IntN(len(kinds))]; k {
		case chtest.Kill:
			return chtest.Fault{Kind: k, After: ms(25), Down: ms(100)}
		case chtest.Late:
			return chtest.Fault{Kind: k, After: ms(60)}
		default:
			return chtest.Fault{Kind: k}
		}
	}
}

// inPieces writes rows to the store as traffic would, some at a time.
func inPieces(t testing.TB, s *store.Store, rows *sink.Rows, size int) {
	t.Helper()
	must(t, s.Write(t.Context(), &sink.Rows{Power: rows.Power, Ledger: rows.Ledger, Configs: rows.Configs}))
	for piece := range slices.Chunk(rows.Requests, size) {
		must(t, s.Write(t.Context(), &sink.Rows{Requests: piece}))
		<-time.After(2 * time.Millisecond)
	}
}

// Killed during inserts and restarted, cut before, cut after the commit, silent, late: whatever happens to
// the inserts, in any order, afterwards every committed row is in ClickHouse exactly once. The rows span
// three months, so that single batches are spread over parts that commit one by one.
func TestEveryRowExactlyOnceUnderFaultsSoak(t *testing.T) {
	t.Parallel()
	requests := 900 // 6 batches, so about 25 inserts of which three of four fail
	if os.Getenv("WATTLINE_SOAK") != "" {
		requests = 40_000
	}
	protocols(t, func(t *testing.T, native bool) {
		w := ownWorld(t)
		c := w.client(native)
		s := outbox(t)
		sh := impatient(w.shipper(c, s), c)
		sh.cfg.MaxRows = 150
		must(t, sh.Flush(t.Context())) // creates the tables
		w.srv.Plan(chaos(11))
		untilDrained(t, sh, c, s, func() {
			inPieces(t, s, chtest.Rows(chtest.RowsConfig{Seed: 8, Requests: requests, Samples: 100, Every: 60 * 24 * time.Hour / time.Duration(requests),
				From: time.Now().UTC().AddDate(0, 0, -70).Truncate(time.Hour)}), 100)
		})
		// How many inserts that took depends on when they were killed: more rows come until each fault was met.
		for seed := uint64(100); untried(w.srv) != "" && seed < 150; seed++ {
			untilDrained(t, sh, c, s, func() {
				inPieces(t, s, chtest.Rows(chtest.RowsConfig{Seed: seed, Requests: 100}), 100)
			})
		}
		settleDown(t, w)
		tried := w.srv.Tried()
		if k := untried(w.srv); k != "" {
			t.Errorf("no insert met %q", k)
		}
		st := sh.Stats()
		t.Logf("inserts tried: %v", tried)
		t.Logf("batches: %d confirmed, %d failures, %d found complete, %d sent again, %d refilled, %d rows doubled", st.Batches, st.Failures, st.FoundComplete, st.Resent, st.Refilled, st.Doubled)
		w.exactlyOnce(s)
	})
}

// untried is a fault that no insert has met, "" if there is none.
func untried(srv *chtest.Server) chtest.FaultKind {
	tried := srv.Tried()
	for _, k := range []chtest.FaultKind{chtest.CutBefore, chtest.CutAfter, chtest.HangBefore, chtest.HangAfter, chtest.Late, chtest.Kill} {
		if tried[k] == 0 {
			return k
		}
	}
	return ""
}

// settleDown waits for inserts that are still to be carried out late, and for a restart.
func settleDown(t testing.TB, w *world) {
	t.Helper()
	w.srv.Plan(nil)
	w.srv.Settle()
	if _, err := w.srv.Engine().Query(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
}

// The tables remember a token whose rows they lost, some or all: only the lost ones are sent again.
func TestRefill(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, native bool) {
		for i, lost := range []string{"cityHash64(id) % 4 = 0", "true"} {
			w := newWorld(t, chtest.Options{})
			c := w.client(native)
			s := outbox(t)
			sh := w.shipper(c, s)
			sh.deliverTo(c, current()).settle = 0
			must(t, sh.Flush(t.Context()))
			must(t, s.Write(t.Context(), chtest.Rows(chtest.RowsConfig{Seed: 9, Requests: 400})))
			w.insertTwice(c, s)
			w.query("ALTER TABLE $db.requests MODIFY SETTING remove_empty_parts = 0") // which would take the token with it
			w.query("ALTER TABLE $db.requests DELETE WHERE " + lost + " SETTINGS mutations_sync = 2")
			if n := w.query("SELECT count() BETWEEN 200 AND 350 OR count() = 0 FROM $db.requests"); n != "1" {
				t.Fatal("the rows were not lost")
			}
			must(t, sh.Flush(t.Context()))
			w.exactlyOnce(s)
			if st := sh.Stats(); st.Refilled != 1 || st.Resent != uint64(i) {
				t.Errorf("%+v", st)
			}
		}
	})
}

// Half a batch: the parts of one month are in, those of the other are not.
func TestHalfCommittedBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	c := w.client(false)
	s := outbox(t)
	sh := w.shipper(c, s)
	must(t, sh.Flush(t.Context()))
	rows := chtest.Rows(chtest.RowsConfig{Seed: 10, Requests: 400})
	for _, r := range rows.Requests[:150] {
		r.StartedAt = r.StartedAt.AddDate(0, -2, 0)
	}
	must(t, s.Write(t.Context(), rows))
	found, err := c.inspect(t.Context())
	must(t, err)
	b, err := s.NextBatch(t.Context(), 500)
	must(t, err)
	r, err := rowsOf(b, "fallback")
	must(t, err)
	sc := current()
	r.n = 150
	must(t, c.insert(t.Context(), sc.table("requests"), found["requests"], r))
	sh = w.shipper(c, s)
	if err := sh.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "250 of 400 rows") || w.query("SELECT count() FROM $db.requests") != "150" {
		t.Errorf("while the INSERT may be under way: %v", err)
	}
	sh.deliverTo(c, sc).settle = 0
	must(t, sh.Flush(t.Context()))
	w.exactlyOnce(s)
	if st := sh.Stats(); st.Resent != 0 || st.Refilled != 1 {
		t.Errorf("%+v", st)
	}
}

// complains waits until the shipper's last error says so.
func complains(t testing.TB, sh *Shipper, says string) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); ; <-time.After(5 * time.Millisecond) {
		last := sh.Stats().LastError
		if strings.Contains(last, says) {
			t.Log(last)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sentence is %q, not one that says %q", last, says)
		}
	}
}

// A wrong password keeps the rows waiting, says so in a sentence, and appears nowhere.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, native bool) {
		const secret = "sesame+open/wide"
		w := newWorld(t, chtest.Options{Users: map[string]string{"watt": secret}})
		dsn := strings.Replace(w.srv.DSN(w.db), "default@", "watt@", 1)
		if native {
			dsn = strings.Replace(w.srv.NativeDSN(w.db), "default@", "watt@", 1)
		}
		s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 12, Requests: 300}))
		var log bytes.Buffer
		attempt := func(password string) *Shipper {
			c, err := Open(w.target(dsn).WithPassword(password))
			must(t, err)
			t.Cleanup(func() { _ = c.Close() })
			sh := impatient(NewShipper(Config{Client: c, Outbox: s, Interval: 10 * time.Millisecond,
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}), c)
			return sh
		}
		wrong := "sesame+shut/tight"
		sh := attempt(wrong)
		until(t, sh, func() {
			complains(t, sh, `refused user "watt"`)
		})
		st := sh.Stats()
		if !strings.Contains(st.LastError, "--clickhouse-password-file") {
			t.Errorf("the sentence is %q", st.LastError)
		}
		t.Log(st.LastError)
		for _, p := range []string{wrong, "sesame%2Bshut%2Ftight", secret} {
			if strings.Contains(st.LastError+log.String()+fmt.Sprintf("%+v %#v", sh.cfg.Client.target, sh.cfg.Client.target), p) {
				t.Errorf("%q appears", p)
			}
		}
		waiting, err := s.Waiting(t.Context())
		must(t, err)
		if waiting.Rows[store.TableRequests] != 300 {
			t.Errorf("%d requests wait, expected all 300", waiting.Rows[store.TableRequests])
		}
		right := attempt(secret)
		right.cfg.Client.insertTimeout = testTimeout
		must(t, right.Flush(t.Context()))
		w.exactlyOnce(s)
	})
}

// A dropped table: the rows wait and the sentence says what adds it; then they arrive.
func TestMissingTable(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, native bool) {
		w := newWorld(t, chtest.Options{})
		c := w.client(native)
		s := outbox(t)
		sh := impatient(w.shipper(c, s), c)
		must(t, sh.Flush(t.Context()))
		w.query("DROP TABLE $db.requests")
		untilDrained(t, sh, c, s, func() {
			must(t, s.Write(t.Context(), chtest.Rows(chtest.RowsConfig{Seed: 13, Requests: 800, Samples: 60})))
			complains(t, sh, "wattline ddl --apply")
			must(t, c.Apply(t.Context(), ""))
		})
		w.exactlyOnce(s)
	})
}

// Two wattlines into one database, one of the previous schema version, whichever made the tables: both
// ship, and the sums are the stores'.
func TestTwoWattlines(t *testing.T) {
	t.Parallel()
	for _, maker := range []string{"previous", "current"} {
		t.Run("tables made by the "+maker, func(t *testing.T) {
			w := newWorld(t, chtest.Options{})
			versions := map[string]schema{"previous": previous(), "current": current()}
			c := w.client(false)
			must(t, c.run(t.Context(), versions[maker].ddl(Layout{Database: w.db})))

			stores := []*store.Store{}
			var ships sync.WaitGroup
			for i, of := range []string{"previous", "current"} {
				s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: uint64(20 + i), Requests: 1100, Samples: 60, Gaps: true, Instance: "host-" + of}))
				stores = append(stores, s)
				client := w.client(i == 0)
				sh := w.shipper(client, s)
				sh.deliverTo(client, versions[of])
				ships.Go(func() {
					if err := sh.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			ships.Wait()
			w.exactlyOnce(stores...)
			if got := w.query("SELECT instance, count() FROM $db.requests GROUP BY instance ORDER BY instance"); got != "host-current\t1100\nhost-previous\t1100" {
				t.Errorf("%q", got)
			}
		})
	}
}

// Neither a failing database nor a failing store ends the shipper; only its context does.
func TestRunEndsOnlyWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	s := NewShipper(Config{Outbox: brokenBox{}, Log: quiet(t)})
	s.firstPause, s.longestPause = time.Microsecond, time.Microsecond
	s.ready = func(context.Context) error {
		if tries++; tries == 100 {
			cancel()
		}
		return nil
	}
	if err := s.Run(ctx); err != nil || tries != 100 {
		t.Errorf("%v after %d tries", err, tries)
	}
	if e := s.Stats().LastError; e != "broken" {
		t.Errorf("last error %q", e)
	}
}

type brokenBox struct{ Outbox }

func (brokenBox) NextBatch(context.Context, int) (*store.Batch, error) {
	return nil, errors.New("broken")
}
